"""Everything that is proved of a bound recipe, as one value to print, draw and save."""

from collections.abc import Iterator, Sequence

from torch import fx

from qcompile.analysis.accumulator import bound
from qcompile.analysis.context import Context
from qcompile.analysis.fusions import fusions
from qcompile.analysis.islands import islands
from qcompile.analysis.scale_sharing import scale_classes
from qcompile.capture.operations import mutates
from qcompile.capture.unit import Unit
from qcompile.policy.graph_facts import (
    Accumulator,
    GraphFacts,
    OperandRange,
    SharedWeight,
    UnitEdges,
    ValueUse,
)
from qcompile.policy.scheme import QuantSlot
from qcompile.policy.site import Site


def graph_facts(context: Context, units: Sequence[Unit]) -> GraphFacts:
    graph = context.graph.graph
    return GraphFacts(
        nodes=len(context.structure.nodes),
        scale_classes=scale_classes(context.structure.ties),
        fusions=fusions(context.sites),
        shared_weights=tuple(_shared_weights(context.sites)),
        uses=tuple(_uses(context)),
        ranges=tuple(_ranges(context)),
        accumulators=tuple(_accumulators(context)),
        units=tuple(_unit_edges(units)),
        islands=tuple(site.key for site in islands(graph, context.sites, context.decisions)),
        dead=tuple(_dead(context.graph)),
    )


def _shared_weights(sites: Sequence[Site]) -> Iterator[SharedWeight]:
    readers: dict[str, list[str]] = {}
    for site in sites:
        if site.weight is not None:
            readers.setdefault(site.weight.storage, []).append(site.key)
    for storage, keys in readers.items():
        if len(keys) > 1:
            yield SharedWeight(storage=storage, sites=tuple(keys))


def _uses(context: Context) -> Iterator[ValueUse]:
    readers: dict[str, list[tuple[str, str]]] = {}
    for site in context.sites:
        slots = context.decisions[site.key].slots
        for position, operand in enumerate(site.operands):
            spec = slots["act" if position == 0 else "act2"]
            written = str(spec.format) if isinstance(spec, QuantSlot) else "float"
            readers.setdefault(operand, []).append((site.key, written))
    for value, found in readers.items():
        if len(found) > 1:
            formats = dict.fromkeys(written for _, written in found)
            yield ValueUse(value=value, sites=tuple(k for k, _ in found), formats=tuple(formats))


def _ranges(context: Context) -> Iterator[OperandRange]:
    for site in context.sites:
        for position, operand in enumerate(site.operands):
            interval = context.structure.range_of(operand)
            if interval.is_known:
                yield OperandRange(
                    site=site.key,
                    slot="act" if position == 0 else "act2",
                    low=_finite(interval.low),
                    high=_finite(interval.high),
                )


def _finite(end: float) -> float | None:
    return None if end in (float("inf"), float("-inf")) else end


def _accumulators(context: Context) -> Iterator[Accumulator]:
    for site, decision in context.decided():
        worst = bound(site, decision)
        if worst is not None:
            yield worst


def _unit_edges(units: Sequence[Unit]) -> Iterator[UnitEdges]:
    maker = {name: unit.name for unit in units for name in unit.outputs}
    for unit in units:
        reads = dict.fromkeys(maker[name] for name in unit.inputs if name in maker)
        yield UnitEdges(unit=unit.name, reads=tuple(reads))


def _dead(module: fx.GraphModule) -> Iterator[str]:
    """Nodes from which no path leads to an output or to a write; inputs are not computed."""
    needed: set[fx.Node] = set()
    for node in reversed(module.graph.nodes):
        is_end = node.op == "output" or mutates(node, module)
        if is_end or not needed.isdisjoint(node.users):
            needed.add(node)
    for node in module.graph.nodes:
        if node not in needed and node.op != "placeholder":
            yield node.name
