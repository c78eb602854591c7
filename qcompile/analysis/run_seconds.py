"""How long a run takes, unit by unit, on a machine whose speeds are known."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

from torch import fx

from qcompile.analysis.layer_work import LayerWork, is_static, matrix_layer
from qcompile.analysis.run_memory import FLOAT, UnitMemory, held
from qcompile.analysis.run_walk import RunWalk
from qcompile.analysis.speeds import Speeds
from qcompile.capture.unit import Unit
from qcompile.methods.tuning import Tuning
from qcompile.policy.core import TensorPlan

HELD_OUT = 8
"""One batch in so many judges what was learned."""
JUDGED = 3
"""Nearest rounding, the start, and what was learned."""


def unit_seconds(walk: RunWalk, speeds: Speeds, memory: Sequence[UnitMemory]) -> Iterator[float]:
    """In the order of the walk, for the units of ``memory``."""
    timer = _Timer(walk, LayerWork(walk.graph, walk.sites, walk.sizes, speeds))
    solved: set[str] = set()
    for unit, sizes in zip(walk.units, memory, strict=True):
        seconds = sum(timer.node(walk.nodes[name], solved) for name in unit.nodes)
        seconds += sum(timer.learn(nodes, tuning) for nodes, tuning in walk.learned(unit))
        yield seconds + timer.end(unit, sizes.state)


@dataclass(frozen=True, slots=True)
class _Timer:
    walk: RunWalk
    work: LayerWork

    def node(self, node: fx.Node, solved: set[str]) -> float:
        """Evaluate it, and quantize it if it is planned; ``solved`` storages are rounded once."""
        walk, work = self.walk, self.work
        seconds = walk.streams(node.name) * walk.batches * work.evaluate(node)
        if not walk.tensors(node.name):
            return seconds
        seconds += walk.batches * work.sizes.elements(node) * work.speeds.over("compare")
        for tensor, used in walk.operands(node.name):
            seconds += walk.batches * work.quantize(used)
            if is_static(tensor):
                elements = round(walk.batches * work.sizes.elements(used))
                seconds += work.range_search(tensor.spec, elements)
        weight = walk.weight(node.name)
        if weight is None or weight.storage in solved:
            return seconds
        solved.add(weight.storage or "")
        return seconds + self._weight(node, weight)

    def _weight(self, node: fx.Node, weight: TensorPlan) -> float:
        walk, work = self.walk, self.work
        count = prod(weight.shape)
        seconds = work.range_search(weight.spec, count, limit=None)
        seconds += count * (work.speeds.over("compare") + 2 * work.speeds.over("quantize"))
        tuning = walk.tuning_of(node.name)
        layer = matrix_layer(walk.sites[node.name], work.sizes.elements(node))
        if not tuning.uses_moments or layer is None:
            return seconds
        operands = sum(work.quantize(used) for _, used in walk.operands(node.name))
        seconds += walk.batches * (work.statistics(layer) + operands)
        return seconds + work.solve(layer, tuning, weight.spec, count)

    def learn(self, names: Sequence[str], tuning: Tuning) -> float:
        """All steps, what judges the result, and the new values of the quantized stream."""
        walk, work = self.walk, self.work
        step = forward = 0.0
        for name in names:
            node = walk.nodes[name]
            step += work.evaluate(node, training=True)
            forward += work.evaluate(node)
            for _, used in walk.operands(name):
                step += work.quantize(used, training=True)
                forward += work.quantize(used)
            weight = walk.weight(name)
            if weight is not None:
                step += work.speeds.step.seconds(prod(weight.shape))
        made = work.sizes.elements(walk.nodes[names[-1]])
        step += made * 3 * work.speeds.over("plain", training=True)
        judged = JUDGED * max(int(walk.batches) // HELD_OUT, 1)
        return tuning.steps * step + (judged + walk.batches) * forward

    def end(self, unit: Unit, state: int) -> float:
        """Check what leaves the unit, compare it, and save it."""
        speeds = self.work.speeds
        made = sum(held(self.walk, name) for name in unit.outputs) / FLOAT
        passes = made * (speeds.over("check") + speeds.over("compare") / 2)
        return passes + state / FLOAT * speeds.over("save") + speeds.commit
