"""Bytes that are alive at once in a run, unit by unit."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod

from qcompile.analysis.layer_work import matrix_layer
from qcompile.analysis.run_walk import RunWalk, Stretch
from qcompile.capture.unit import Unit
from qcompile.quant.variables.categorical import NEIGHBOURS

FLOAT, DOUBLE = 4, 8
QUANTIZING = 4
"""Copies of an operand, a batch each, that a quantizer holds at once."""
PATCHES = 4
"""Copies of the patches of a batch, while statistics are taken."""
SOLVING = 10
"""Copies of the rows that the solvers work on, in double precision."""
LEARNING = 12
"""Copies of a weight that is learned: variable, gradient, Adam's two, and what is saved."""
RECORDED = 3
"""Copies of each value of a block that the backward pass needs."""
RECORDED_BEHIND = 1
"""The same of the float network behind it: neither quantizers nor weights to be learned."""
RETAINED = 1.5
"""Bytes that a process keeps for each byte of the streams: freed values leave holes behind."""
MAPPED = 32 << 20
"""Bytes from which a tensor has pages of its own, which it gives back: it leaves no hole."""
SAVING = 2
"""Copies of the state while it is turned into a file."""


@dataclass(frozen=True, slots=True)
class UnitMemory:
    peak: int
    """Of tensors."""
    state: int
    """Of what is saved after the unit."""
    pooled: int
    """Of the streams alone, at their most, in memory that is not given back."""
    mapped: int
    """All that is asked of the system for the values of the unit, and given back with them."""


def unit_memory(walk: RunWalk) -> Iterator[UnitMemory]:
    """In the order of the walk; values are held from the node that makes them to their last use."""
    order = list(chain.from_iterable(unit.nodes for unit in walk.units))
    position = {name: at for at, name in enumerate(order)}
    dies: dict[int, list[str]] = {}
    for name, node in walk.nodes.items():
        last = max((position.get(user.name, -1) for user in node.users), default=-1)
        dies.setdefault(max(last, position.get(name, 0)), []).append(name)
    inputs = walk.graph.graph.find_nodes(op="placeholder")
    streams, results = _Streams(walk, (node.name for node in inputs)), 0
    for unit in walk.units:
        kept, late = set(unit.outputs), list[str]()
        again = streams.once_more(_inputs(walk, unit))
        peak, pooled = streams.resident, streams.pooled
        for name in unit.nodes:
            streams.add(name)
            peak = max(peak, streams.resident + again + _aside(walk, name))
            pooled = max(pooled, streams.pooled)
            for dead in dies.get(position[name], ()):
                if dead in kept:
                    late.append(dead)
                else:
                    streams.drop(dead)
        for stretch in walk.learned(unit):
            peak = max(peak, streams.resident + again + _learning(walk, stretch))
        for dead in late:
            streams.drop(dead)
        results += sum(t.bytes_after for name in unit.nodes for t in walk.tensors(name))
        state = streams.alive
        mapped = sum(held(walk, name) for name in unit.nodes if is_mapped(walk, name))
        yield UnitMemory(max(peak, state * (1 + SAVING)) + results, state, pooled, mapped)


class _Streams:
    """The values that are held at a time, in bytes of both streams."""

    def __init__(self, walk: RunWalk, names: Iterable[str]) -> None:
        self._walk = walk
        self._live: dict[str, int] = {}
        self.alive = self._mapped = self._pool = 0
        for name in names:
            self.add(name)

    @property
    def pooled(self) -> int:
        """What the process keeps for values without pages of their own, those before included."""
        return max(round(RETAINED * (self.alive - self._mapped)), self._pool)

    @property
    def resident(self) -> int:
        return self._mapped + self.pooled

    def add(self, name: str) -> None:
        size = held(self._walk, name)
        self._live[name] = size
        self._count(name, size)

    def drop(self, name: str) -> None:
        self._count(name, -self._live.pop(name, 0))

    def once_more(self, names: Iterable[str]) -> int:
        """What second copies of the values that are held among ``names`` would take."""
        found = [(one, self._live[one]) for one in names if one in self._live]
        sizes = (size * (1 if is_mapped(self._walk, one) else RETAINED) for one, size in found)
        return round(sum(sizes))

    def _count(self, name: str, size: int) -> None:
        self.alive += size
        self._mapped += size if is_mapped(self._walk, name) else 0
        self._pool = max(self._pool, self.alive - self._mapped)


def is_mapped(walk: RunWalk, name: str) -> bool:
    """A batch of the value has pages of its own."""
    return walk.sizes.nbytes(walk.nodes[name]) >= MAPPED


def held(walk: RunWalk, name: str) -> int:
    """Bytes of a value over all batches, in the streams in which it is held."""
    held_once = round(walk.sizes.nbytes(walk.nodes[name]) * walk.batches)
    return held_once * walk.streams(name)


def _inputs(walk: RunWalk, unit: Unit) -> Sequence[str]:
    """What a unit reads and keeps to the end, where it is learned as a whole."""
    whole = any(len(stretch.nodes) == len(unit.nodes) for stretch in walk.learned(unit))
    return unit.inputs if whole else ()


def _aside(walk: RunWalk, name: str) -> int:
    """What is held besides the streams while a node is quantized."""
    aside = QUANTIZING * FLOAT * sum(walk.sizes.elements(used) for _, used in walk.operands(name))
    weight = walk.weight(name)
    if weight is None:
        return aside
    tuning = walk.tuning_of(name)
    layer = matrix_layer(walk.sites[name], walk.sizes.elements(walk.nodes[name]))
    if not tuning.uses_moments or layer is None:
        return aside + QUANTIZING * FLOAT * prod(weight.shape)
    patches = layer.groups * layer.positions * layer.k
    outputs = layer.groups * layer.positions * layer.rows
    moments = FLOAT * (PATCHES * patches + 2 * outputs)
    grams = 3 * layer.groups * layer.k**2
    rows = layer.groups * layer.rows * layer.k * len(tuning.scale_factors)
    return aside + max(moments, DOUBLE * (grams + SOLVING * rows))


def _learning(walk: RunWalk, stretch: Stretch) -> int:
    """Of the steps, and of what the loss keeps of every batch."""
    recorded = RECORDED * sum(walk.sizes.elements(walk.nodes[name]) for name in stretch.nodes)
    recorded += RECORDED_BEHIND * sum(map(walk.sizes.elements, walk.tail(stretch)))
    weights = (walk.weight(name) for name in stretch.nodes)
    learned = sum(prod(weight.shape) for weight in weights if weight is not None)
    copies = LEARNING * (NEIGHBOURS if stretch.tuning.variable == "categorical" else 1)
    return FLOAT * (recorded + copies * learned) + _of_loss(walk, stretch)


def _of_loss(walk: RunWalk, stretch: Stretch) -> int:
    """Derivatives as large as what is fitted, float outputs of the network, changes of inputs."""
    made = walk.sizes.elements(walk.nodes[stretch.output])
    batches = walk.fitted(stretch.tuning)
    elements = 0.0
    if "gradient" in stretch.views:  # where they are taken, and they themselves
        elements += 2 * batches * made
    if "curvature" in stretch.views:  # a row for each batch, then their mean
        elements += 2 * batches * made / walk.batch
    if "network" in stretch.views and walk.end is not None:
        elements += batches * walk.sizes.elements(walk.end)
    if stretch.tuning.augment.name == "distribution_correction":
        inside = set(stretch.nodes)
        read = {one for name in inside for one in walk.nodes[name].all_input_nodes}
        outside = (one for one in read if one.name not in inside and one.op != "get_attr")
        elements += batches * sum(map(walk.sizes.elements, outside))
    return round(FLOAT * elements)
