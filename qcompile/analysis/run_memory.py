"""Bytes that are alive at once in a run, unit by unit."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from types import MappingProxyType

from torch import fx

from qcompile.analysis.layer_work import judged_rows, matrix_layer
from qcompile.analysis.run_walk import RunWalk, Stretch
from qcompile.capture.kinds import is_structural
from qcompile.capture.lifetimes import Lifetimes, is_result
from qcompile.capture.unit import Unit
from qcompile.policy.number_format import IntFormat
from qcompile.policy.scheme import QuantSlot
from qcompile.policy.site import Kind
from qcompile.quant.activation_quantizer import is_e4m3_at_run_time
from qcompile.quant.layer_solver import tried_at_once
from qcompile.quant.moments import is_wide
from qcompile.quant.variables.categorical import NEIGHBOURS

FLOAT, DOUBLE = 4, 8
QUANTIZING, QUANTIZING_E4M3, QUANTIZING_LEVELS = 1, 2, 4
"""Copies of an operand, a batch each, that a quantizer makes: of integers it works in place."""
ROUNDING = 4
"""Copies of a weight that is rounded for itself."""
PATCHES = 1.25
"""Copies of the patches that are made together: of them, and of what is padded."""
WANTED = 2
"""Copies of the outputs of a batch: as they were, and what is wanted of them."""
OUTPUTS = 2
"""Of those that belong to such patches: around their mean, and a product."""
HELD = 3
"""Gram matrices in double precision that are held throughout a trial of dampings."""
FACTORISING = 3
"""Further ones while one is factorised."""
FACTORISED = 2
"""For each factor: it, and its copies in single precision."""
JUDGED_INPUTS, JUDGED_OUTPUTS = 4, 3
"""Copies of some rows of a layer, on which ranges of its input are compared."""
SOLVED = 2
"""Gram matrices in double precision while the solvers work on rows at all scales."""
ROWS_TRIED, ROWS_SOLVED = 8, 9
"""Copies of the weight in double precision: in the trial, and while solvers work."""
SCALED = 7
"""Copies of the rows at all scales, in single precision."""
SCATTERED = 1.3
"""Bytes that a process keeps for each byte of such copies, which leave holes as well."""
SUMMED = 1.15
"""The same of what is summed up before: found to stay, but in front of wide matrix products."""
LEARNING = 12
"""Copies of a weight that is learned: variable, gradient, Adam's two, and what is saved."""
RECORDED = 2.0
"""Copies of each value of a block that the backward pass needs; views are none."""
RECORDED_QUANTIZED = 3
"""The same of each operand that is quantized: where it is within the range, and how far off."""
RECORDED_BEHIND = 1
"""The same of the float network behind it: neither quantizers nor weights to be learned."""
RETAINED = 1.27
"""Bytes that a process keeps for each byte of the streams: freed values leave holes behind."""
MAPPED = 32 << 20
"""Bytes from which a tensor has pages of its own, which it gives back: it leaves no hole."""
SAVING = 2
"""Copies of the state while it is turned into a file."""
NOTHING: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class UnitMemory:
    peak: int
    """Of tensors and the holes between them."""
    streams: int
    """Values of both streams when the most of them are held, as a site is worked on."""
    statistics: int
    """What the solvers of a layer work on, at their most, and quantized operands."""
    learning: int
    """What is learned as one and what its steps record, at their most."""
    state: int
    """Of what is saved after the unit."""
    pooled: int
    """Of the streams alone, at their most and beyond those before: what comes from the heap."""
    mapped: int
    """All that is asked of the system for single values of the unit, and given back with them."""


def unit_memory(walk: RunWalk) -> Iterator[UnitMemory]:
    """In the order of the walk; values are held from the node that makes them to their last use.

    What a node reads for the last time goes batch by batch, as its own value comes. What nothing
    but the network's output reads is not held, unless something is learned from it. The samples are
    the caller's (``samples_bytes``), and in a state as long as they are read.
    """
    lifetimes = Lifetimes(walk.nodes.values(), walk.units)
    samples = [name for name, node in walk.nodes.items() if node.op == "placeholder"]
    streams, written = _Streams(walk), 0
    for unit in walk.units:
        kept = {*unit.outputs, *_inputs(walk, unit)}
        results = {name for name in unit.nodes if is_result(walk.nodes[name])}
        results -= {name for stretch in walk.learned(unit) for name in stretch.nodes}
        peak, most, statistics = streams.resident(), streams.alive, 0
        for name in unit.nodes:
            fitted = NOTHING if name in results else _fitted(walk, name)
            solved = _statistics(walk, name)
            aside = solved + _quantizing(walk, name, is_fitted=solved > 0)
            wide = solved and _is_wide(walk, name)
            values = streams.settled(fitted) if wide else streams.resident(fitted)
            peak = max(peak, values + aside)
            if walk.tensors(name):
                most = max(most, streams.alive + sum(fitted.values()))
            statistics = max(statistics, aside if solved else 0)
            if name not in results:
                streams.add(name)
            streams.drop(lifetimes.over(streams.live, lifetimes.place[name], kept))
            peak = max(peak, streams.resident() + _one_batch(walk, name))
        learning = max((_learning(walk, one) for one in walk.learned(unit)), default=0)
        peak = max(peak, streams.resident() + learning)
        for stretch in walk.learned(unit):
            again = {stretch.output: held(walk, stretch.output) // walk.streams(stretch.output)}
            peak = max(peak, streams.resident(again))
        pooled, mapped = streams.most
        end = lifetimes.place[unit.nodes[-1]]
        streams.drop(lifetimes.over(streams.live, end, frozenset()))
        written += sum(t.bytes_after for name in unit.nodes for t in walk.tensors(name))
        read = [name for name in samples if lifetimes.last_read[name] > end]
        state = streams.alive + sum(held(walk, name) for name in read)
        streams.begin()
        peak = max(peak, state * (1 + SAVING)) + written
        yield UnitMemory(peak, most, statistics, learning, state, pooled, mapped)


def samples_bytes(walk: RunWalk) -> int:
    """Of the batches that go in."""
    inputs = walk.graph.graph.find_nodes(op="placeholder")
    return sum(held(walk, node.name) for node in inputs)


class _Streams:
    """The values that are held at a time, in bytes of both streams."""

    def __init__(self, walk: RunWalk) -> None:
        self._walk = walk
        self.live: dict[str, int] = {}
        self.alive = self._mapped = self._asked = self._most = 0
        self.begin()

    def begin(self) -> None:
        """A unit, before which all that was freed is given back."""
        self._asked = 0
        self._start = self._most = self._pooled

    def settled(self, further: Mapping[str, int]) -> int:
        """With ``further``, when what was freed has just been given back."""
        self._most = self.alive - self._mapped
        return self.alive + sum(further.values())

    def resident(self, further: Mapping[str, int] = NOTHING) -> int:
        """With ``further`` bytes of values, by name; what the heap had once, it keeps."""
        pooled = sum(size for name, size in further.items() if not is_mapped(self._walk, name))
        mapped = sum(further.values()) - pooled + self._mapped
        self._most = max(self._most, self._pooled + round(RETAINED * pooled))
        return mapped + self._most

    @property
    def most(self) -> tuple[int, int]:
        """Since the last ``begin``: see ``UnitMemory.pooled`` and ``mapped``."""
        return self._most - self._start, self._asked

    def add(self, name: str) -> None:
        size = held(self._walk, name)
        self.live[name] = size
        self._count(name, size)
        self._asked += size if is_mapped(self._walk, name) else 0

    def drop(self, names: Iterable[str]) -> None:
        for name in names:
            self._count(name, -self.live.pop(name))

    @property
    def _pooled(self) -> int:
        return round(RETAINED * (self.alive - self._mapped))

    def _count(self, name: str, size: int) -> None:
        self.alive += size
        self._mapped += size if is_mapped(self._walk, name) else 0


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


def _one_batch(walk: RunWalk, name: str) -> int:
    """Of a value, in both streams: what it is made of is there still, or it is compared."""
    return walk.sizes.nbytes(walk.nodes[name]) * walk.streams(name)


def _fitted(walk: RunWalk, name: str) -> Mapping[str, int]:
    """Float outputs of a layer, which its solvers need before its inputs can go."""
    if walk.weight(name) is None or not walk.tuning_of(name).uses_moments:
        return NOTHING
    return {name: held(walk, name) // walk.streams(name)}


def _is_wide(walk: RunWalk, name: str) -> bool:
    """Its solvers have freed memory given back before they begin."""
    layer = matrix_layer(walk.sites[name], walk.sizes.elements(walk.nodes[name]))
    return layer is not None and is_wide(layer.k)


def _quantizing(walk: RunWalk, name: str, *, is_fitted: bool) -> int:
    """Copies of operands, and of a weight that is rounded for itself."""
    operands = ((_copies(t.spec), walk.sizes.elements(used)) for t, used in walk.operands(name))
    aside = FLOAT * sum(copies * elements for copies, elements in operands)
    weight = walk.weight(name)
    if weight is None or is_fitted:
        return aside
    return aside + ROUNDING * FLOAT * prod(weight.shape)


def _copies(spec: QuantSlot) -> int:
    if isinstance(spec.format, IntFormat):
        return QUANTIZING
    return QUANTIZING_E4M3 if is_e4m3_at_run_time(spec) else QUANTIZING_LEVELS


def _statistics(walk: RunWalk, name: str) -> int:
    """Of a layer that is fitted: moments of a batch, one factorisation, rows at all scales."""
    if walk.weight(name) is None:
        return 0
    tuning = walk.tuning_of(name)
    layer = matrix_layer(walk.sites[name], walk.sizes.elements(walk.nodes[name]))
    if not tuning.uses_moments or layer is None:
        return 0
    wanted = WANTED * layer.groups * layer.positions * layer.rows
    pieces = layer.groups * layer.at_once * (PATCHES * layer.k + OUTPUTS * layer.rows)
    gram, rows = layer.groups * layer.k**2, layer.groups * layer.rows * layer.k
    moments = FLOAT * (wanted + pieces) + 2 * DOUBLE * (gram + rows)
    tried = tried_at_once(len(tuning.damping), DOUBLE * gram)
    grams = max(HELD + tried - 1 + FACTORISING, HELD + tried * FACTORISED)
    trial = DOUBLE * (grams * gram + ROWS_TRIED * rows)
    solving = DOUBLE * (SOLVED * gram + ROWS_SOLVED * rows)
    solving += SCALED * FLOAT * rows * len(tuning.scale_factors)
    ranges = 0
    if walk.chooses_range(name):
        count = layer.groups * sum(judged_rows(layer, walk.batches))
        copies = JUDGED_INPUTS * layer.k + JUDGED_OUTPUTS * layer.rows
        ranges = FLOAT * (count * copies + gram)
    sums, solved = SUMMED * moments, SCATTERED * max(trial, solving)
    gives_back = is_wide(layer.k) and walk.sites[name].kind is Kind.LINEAR
    together = max(sums, solved) if gives_back else sums + solved
    return round(max(ranges, together))


def _learning(walk: RunWalk, stretch: Stretch) -> int:
    """Of the steps, and of what the loss keeps of every batch."""
    graph = walk.graph
    made = [node for name in stretch.nodes if not is_structural(node := walk.nodes[name], graph)]
    operands = (used for name in stretch.nodes for _, used in walk.operands(name))
    recorded = RECORDED * _recorded(walk, made)
    recorded += RECORDED_QUANTIZED * _recorded(walk, operands)
    recorded += RECORDED_BEHIND * _recorded(walk, walk.tail(stretch))
    weights = (walk.weight(name) for name in stretch.nodes)
    learned = sum(prod(weight.shape) for weight in weights if weight is not None)
    copies = LEARNING * (NEIGHBOURS if stretch.tuning.variable == "categorical" else 1)
    return round(FLOAT * (recorded + copies * learned)) + _of_loss(walk, stretch)


def _recorded(walk: RunWalk, nodes: Iterable[fx.Node]) -> float:
    """Elements, with the holes that smaller values leave."""
    return sum(
        walk.sizes.elements(node) * (1 if is_mapped(walk, node.name) else RETAINED)
        for node in nodes
    )


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
