"""Values that a quantized join holds on one grid have to be asked for in one format."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import networkx as nx
from torch import fx

from qcompile.analysis.context import Context
from qcompile.analysis.scale_sharing import Tie, Ties, Vertex, binding, shortest_chain
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.policy.recipe import SlotName
from qcompile.policy.resolution import Decision
from qcompile.policy.scheme import QuantSlot
from qcompile.policy.site import Kind, Site


@dataclass(frozen=True, slots=True)
class Demand:
    """What a join asks of one of its operands; ``spec`` is ``None`` for float."""

    site: Site
    decision: Decision
    slot: SlotName
    spec: QuantSlot | None

    @property
    def grid(self) -> tuple[object, ...]:
        """What two values must have in common to share a scale."""
        spec = self.spec
        return () if spec is None else (spec.format, spec.symmetric, spec.granularity, spec.dynamic)

    def __str__(self) -> str:
        if self.spec is None:
            return "float"
        symmetry = "" if self.spec.symmetric else " asymmetric"
        return f"{self.spec.format}{symmetry} {self.spec.granularity}"


def scale_conflict(context: Context) -> Iterator[Diagnostic]:
    """QR503, QR504: one for each class of values that cannot be on one grid."""
    for inside, ties in _classes(context):
        found = _conflict(inside, ties)
        if found is not None:
            first, second, chain = found
            yield cannot_share(context, first, second, _shown(chain, context))


def on_one_grid(context: Context) -> Iterator[list[str]]:
    """Keys of the joins whose operands have to be asked for in one format."""
    for inside, _ in _classes(context):
        yield list(dict.fromkeys(one.site.key for found in inside.values() for one in found))


def _classes(context: Context) -> Iterator[tuple[dict[fx.Node, list[Demand]], Ties]]:
    """What is asked of the values of each class, in order, and the ties that bind."""
    demands = _demands(context)
    if not demands:
        return
    joins = {demand.site.node for found in demands.values() for demand in found}
    ties = binding(context.structure.ties, lambda node: node.name in joins)
    order = {value: place for place, value in enumerate(demands)}
    for component in nx.connected_components(ties):
        values = (v for v in component if isinstance(v, fx.Node) and v in order)
        yield {value: demands[value] for value in sorted(values, key=order.__getitem__)}, ties


def _demands(context: Context) -> dict[fx.Node, list[Demand]]:
    """By operand, of the joins of codes: a sum of codes and floats has a scale for the codes."""
    nodes = context.structure.nodes
    of_site: dict[str, list[tuple[fx.Node, Demand]]] = defaultdict(list)
    for site, decision, slot, operand in context.operands():
        if site.kind in (Kind.ADD, Kind.CONCAT) and operand in nodes:
            spec = decision.slots[slot]
            demand = Demand(site, decision, slot, spec if isinstance(spec, QuantSlot) else None)
            of_site[site.key].append((nodes[operand], demand))
    found: dict[fx.Node, list[Demand]] = defaultdict(list)
    for operands in of_site.values():
        is_quantized = [demand.spec is not None for _, demand in operands]
        is_sum = operands[0][1].site.kind is Kind.ADD
        if all(is_quantized) or (any(is_quantized) and not is_sum):
            for value, demand in operands:
                found[value].append(demand)
    return found


def _conflict(
    demands: Mapping[fx.Node, Sequence[Demand]], ties: Ties
) -> tuple[Demand, Demand, tuple[Vertex, ...]] | None:
    """The two nearest values of a class that are asked for in different formats."""
    every = [(value, demand) for value, found in demands.items() for demand in found]
    if len({demand.grid for _, demand in every}) < 2:  # none at all included
        return None
    grid = every[0][1].grid
    same = [value for value, demand in every if demand.grid == grid]
    other = [value for value, demand in every if demand.grid != grid]
    chain = shortest_chain(ties, same, other)
    first = next(d for v, d in every if v is chain[0] and d.grid == grid)
    second = next(d for v, d in every if v is chain[-1] and d.grid != grid)
    return first, second, chain


def _shown(chain: Sequence[Vertex], context: Context) -> str:
    """``conv1 -[add]- relu -[cat]- conv2``."""
    sites = context.structure.sites

    def name(node: fx.Node) -> str:
        if node.name in sites:
            return sites[node.name].key
        return str(node.target) if node.op == "call_module" else node.name

    return " ".join(
        f"-[{name(vertex.node)}]-" if isinstance(vertex, Tie) else name(vertex) for vertex in chain
    )


def cannot_share(context: Context, first: Demand, second: Demand, chain: str) -> Diagnostic:
    """QR503, or QR504 where a concatenation is what they meet in."""
    is_concat = Kind.CONCAT in (first.site.kind, second.site.kind)
    here = context.slot_span(second.decision, second.slot)
    there = context.slot_span(first.decision, first.slot)
    where = (
        f"the inputs of `{first.site.key}` need"
        if first.site.key == second.site.key
        else f"`{first.site.key}` and `{second.site.key}` need"
    )
    rules = [d.decision.rule.span for d in (first, second) if d.decision.rule is not None]
    return Diagnostic(
        Code.CONCAT_GRIDS if is_concat else Code.ADD_GRIDS,
        f"{where} one scale, but get {first} and {second}",
        Label(here, str(second)),
        secondary=(
            *([Label(there, str(first))] if there != here else []),
            *(Label(rule, "applied here") for rule in rules if rule not in (here, there)),
        ),
        notes=(f"they are tied by {chain}",),
        help="give both the same scheme, or `skip` the operation that ties them",
    )
