"""The units of a plan as a graph to be drawn: what feeds what, in how many bits."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from qcompile.capture.sites import find_sites
from qcompile.driver.plan import Planned
from qcompile.policy.core import SitePlan, UnitPlan


@dataclass(frozen=True, slots=True)
class GraphBox:
    """A unit, or an input or output of the model.

    ``weight_bits``: of each weight in it that the plan speaks of, ``None`` for float.
    ``sharing``: classes of tensors that it holds in common with other boxes, by number.
    ``scales``: classes of values on one grid that it makes values of, and other boxes too.
    """

    name: str
    schemes: tuple[tuple[str, int], ...] = ()
    weight_bits: tuple[int | None, ...] = ()
    bytes_before: int = 0
    bytes_after: int = 0
    sharing: tuple[int, ...] = ()
    scales: tuple[int, ...] = ()
    is_end: bool = False


@dataclass(frozen=True, slots=True)
class BlockGraph:
    """``edges`` join boxes by their place; boxes stand in execution order, so edges go forward."""

    boxes: tuple[GraphBox, ...]
    edges: tuple[tuple[int, int], ...]


def block_graph(planned: Planned) -> BlockGraph:
    units, sizes = planned.bound.units, planned.plan.core.units
    sites = {site.key: site for site in planned.plan.core.sites}
    inputs = [node.name for node in planned.bound.graph.graph.find_nodes(op="placeholder")]
    read = {name for unit in units for name in unit.inputs}
    starts = [name for name in inputs if name in read]
    homes = {name: unit.name for unit in units for name in unit.nodes}
    shared = _numbered(_readers(planned, homes))
    scales = _numbered(_makers(planned, homes))
    boxes = [GraphBox(name, is_end=True) for name in starts]
    boxes += [
        _box(size, sites, shared.get(size.name, ()), scales.get(size.name, ())) for size in sizes
    ]
    boxes.append(GraphBox("output", is_end=True))
    maker = {name: place for place, name in enumerate(starts)}
    for place, unit in enumerate(units, start=len(starts)):
        maker |= {name: place for name in unit.nodes}
    edges = {
        (maker[name], place)
        for place, unit in enumerate(units, start=len(starts))
        for name in unit.inputs
        if name in maker
    }
    (output,) = planned.bound.graph.graph.find_nodes(op="output")
    last = len(boxes) - 1
    edges |= {(maker[node.name], last) for node in output.all_input_nodes if node.name in maker}
    return BlockGraph(tuple(boxes), tuple(sorted(edges)))


def _box(
    size: UnitPlan,
    sites: dict[str, SitePlan],
    sharing: tuple[int, ...],
    scales: tuple[int, ...],
) -> GraphBox:
    inside = [sites[key] for key in size.sites]
    counts: dict[str, int] = defaultdict(int)
    for site in inside:
        counts[site.scheme or "skip"] += 1
    return GraphBox(
        name=size.name,
        schemes=tuple(sorted(counts.items())),
        weight_bits=tuple(_weight_bits(site) for site in inside),
        bytes_before=size.bytes_before,
        bytes_after=size.bytes_after,
        sharing=sharing,
        scales=scales,
    )


def _weight_bits(site: SitePlan) -> int | None:
    return next((tensor.spec.bits for tensor in site.tensors if tensor.slot == "weight"), None)


def _readers(planned: Planned, homes: Mapping[str, str]) -> Iterable[Iterable[str]]:
    """The units that read each weight."""
    readers: dict[str, list[str]] = defaultdict(list)
    for site in find_sites(planned.bound.graph):
        if site.weight is not None and site.node in homes:
            readers[site.weight.storage].append(homes[site.node])
    return readers.values()


def _makers(planned: Planned, homes: Mapping[str, str]) -> Iterable[Iterable[str]]:
    """The units that make the values of each scale class."""
    for one in planned.bound.facts.scale_classes:
        yield [homes[value] for value in one.values if value in homes]


def _numbered(classes: Iterable[Iterable[str]]) -> dict[str, tuple[int, ...]]:
    """By unit, the numbers of the classes that it shares with another unit."""
    found: dict[str, list[int]] = defaultdict(list)
    kept = (units for units in map(dict.fromkeys, classes) if len(units) > 1)
    for number, units in enumerate(kept):
        for unit in units:
            found[unit].append(number)
    return {unit: tuple(numbers) for unit, numbers in found.items()}
