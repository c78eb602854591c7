"""How long a run takes, unit by unit, on a machine whose speeds are known."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf, prod

from torch import fx

from qcompile.analysis.layer_work import LayerWork, is_static, matrix_layer
from qcompile.analysis.run_memory import FLOAT, UnitMemory, held
from qcompile.analysis.run_walk import RunWalk, Stretch
from qcompile.analysis.speeds import Pace, Speeds
from qcompile.capture.unit import Unit
from qcompile.compat.cpu_features import multiplies_bf16
from qcompile.data.groups import JUDGING
from qcompile.methods.tuning import Tuning
from qcompile.policy.core import TensorPlan

CORRECTING = 50
"""Steps on the inputs of one batch, where distributions are corrected."""
ASKED_TO_SAVE = 2
"""Copies of the state in memory that the system gives for it: a file's contents, and its cache."""
JUDGED = 3
"""Nearest rounding, the start, and what was learned."""


def unit_seconds(walk: RunWalk, speeds: Speeds, memory: Sequence[UnitMemory]) -> Iterator[float]:
    """In the order of the walk, for the units of ``memory``."""
    timer = _Timer(walk, LayerWork(walk.graph, walk.sites, walk.sizes, speeds))
    solved: set[str] = set()
    for unit, sizes in zip(walk.units, memory, strict=True):
        asked = sizes.mapped + sizes.pooled + ASKED_TO_SAVE * sizes.state
        seconds = sum(timer.node(walk.nodes[name], solved) for name in unit.nodes)
        seconds += sum(map(timer.learn, walk.learned(unit)))
        yield seconds + timer.end(unit, sizes.state) + asked / FLOAT * speeds.new


def rescaling_seconds(walk: RunWalk, speeds: Speeds, most: float = inf) -> float:
    """To look at values of the float model in ``most`` batches, and at the first outputs twice."""
    work = LayerWork(walk.graph, walk.sites, walk.sizes, speeds)
    computed = (node for node in walk.nodes.values() if node.op.startswith("call_"))
    return (min(walk.batches, most) + 2) * sum(map(work.evaluate, computed))


def weighing_seconds(walk: RunWalk, speeds: Speeds) -> float:
    """To run the float model, and again for the gradients of its layers; 0 where not asked."""
    if not any(walk.tuning_of(name).weighs_rows for name in walk.nodes if walk.weight(name)):
        return 0.0
    work = LayerWork(walk.graph, walk.sites, walk.sizes, speeds)
    computed = [node for node in walk.nodes.values() if node.op.startswith("call_")]
    both = sum(work.evaluate(node) + work.evaluate(node, "training") for node in computed)
    return walk.batches * both


@dataclass(frozen=True, slots=True)
class _Pass:
    """Seconds for one batch."""

    forward: float
    training: float
    """Forward and backward."""


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
        made = work.sizes.elements(node)
        seconds += walk.batches * made * work.speeds.over("compare", made)
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
        tuning = walk.tuning_of(node.name)
        seconds = work.range_search(weight.spec, count, limit=None)
        seconds += count * (
            work.speeds.over("compare", count) + 2 * work.speeds.over("quantize", count)
        )
        layer = matrix_layer(walk.sites[node.name], work.sizes.elements(node))
        if not tuning.uses_moments or layer is None:
            return seconds
        operands = sum(work.quantize(used) for _, used in walk.operands(node.name))
        seconds += walk.batches * (work.statistics(layer) + operands)
        if walk.chooses_range(node.name):
            seconds += work.output_search(layer, walk.batches)
        return seconds + work.solve(layer, tuning, weight.spec, count)

    def learn(self, stretch: Stretch) -> float:
        """All steps, what judges the result, and the new values of the quantized stream."""
        walk, tuning = self.walk, stretch.tuning
        through, behind = self._through(stretch), self._behind(stretch)
        if not stretch.is_local and not walk.tail(stretch):
            return 0.0  # the loss is about an output that it has no part in
        network = "network" in stretch.views
        both = network and len(stretch.views) > 1 and stretch.feeds_other_values
        made = self.work.sizes.elements(walk.nodes[stretch.output])
        step = (2 if both else 1) * through.training + (behind.training if network else 0.0)
        step += made * 3 * self.work.speeds.over("plain", made, training=True)
        if tuning.augment.name != "none":
            step += through.forward
        batches = walk.fitted(tuning)
        judged = JUDGED * max(int(batches) // JUDGING, 1)
        guard = judged * through.forward
        if not stretch.is_mean_square:
            guard += judged * (through.forward + (behind.forward if network else 0.0))
        once = batches * self._derivatives(stretch, through, behind)
        if tuning.augment.name == "distribution_correction":
            once += batches * CORRECTING * through.training
        return tuning.steps * step + guard + once + walk.batches * through.forward

    def _derivatives(self, stretch: Stretch, through: _Pass, behind: _Pass) -> float:
        """Of one batch: what the loss needs before the first step."""
        seconds = 0.0
        if "network" in stretch.views:
            seconds += behind.forward
        if "gradient" in stretch.views:
            seconds += through.forward + behind.forward + behind.training
        if "curvature" in stretch.views:
            seconds += behind.forward + 2 * behind.training
        return seconds

    def _through(self, stretch: Stretch) -> _Pass:
        """One batch through the stretch, its quantizers and the variables of its weights."""
        walk, work = self.walk, self.work
        training = forward = 0.0
        tuning = stretch.tuning
        pace = _pace(tuning)
        drops = tuning.keep_quantized < 1 and tuning.drop in ("act", "both", "gradual")
        for name in stretch.nodes:
            node = walk.nodes[name]
            training += work.evaluate(node, pace)
            forward += work.evaluate(node)
            for _, used in walk.operands(name):
                training += work.quantize(used, training=True, drops=drops)
                forward += work.quantize(used)
            weight = walk.weight(name)
            if weight is not None:
                training += work.speeds.step.seconds(prod(weight.shape))
        return _Pass(forward, training)

    def _behind(self, stretch: Stretch) -> _Pass:
        """One batch through the float rest; weights have no gradient there, which spares half."""
        nodes = self.walk.tail(stretch)
        forward = sum(self.work.evaluate(node) for node in nodes)
        both = sum(self.work.evaluate(node, _pace(stretch.tuning)) for node in nodes)
        return _Pass(forward, (forward + both) / 2)

    def end(self, unit: Unit, state: int) -> float:
        """Check what leaves the unit, compare it, and save it."""
        speeds = self.work.speeds
        passes = 0.0
        for name in unit.outputs:
            elements = self.work.sizes.elements(self.walk.nodes[name])
            rate = speeds.over("check", elements) + speeds.over("compare", elements) / 2
            passes += held(self.walk, name) / FLOAT * rate
        saved = state / FLOAT
        return passes + saved * speeds.over("save", saved) + speeds.commit


def _pace(tuning: Tuning) -> Pace:
    """Of the steps, on a processor."""
    narrow = tuning.precision == "bf16" or (tuning.precision == "auto" and multiplies_bf16())
    return "training_bf16" if narrow else "training"
