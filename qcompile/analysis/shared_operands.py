"""Which operands get one range: where values of the sites that a ``share`` selects meet.

``share scale for inputs_of(add)`` speaks of the values that the selected sites compute. An
operation that reads two of them or more, such as the addition, quantizes these operands on one
grid, whose range is observed over all of them. Later lines take operands from earlier ones.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from torch import fx

from qcompile.capture.node_meta import facts
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.policy.recipe import Recipe, Rule, ShareRange
from qcompile.policy.resolution import Decision, Resolution
from qcompile.policy.scheme import FloatSlot, PerChannel, QuantSlot
from qcompile.policy.selection import Selection
from qcompile.policy.site import Site
from qcompile.policy.unmatched import some_paths

Shares: TypeAlias = Mapping[tuple[str, int], Rule]
"""By ``Site.key`` and the position of the operand."""


def shared_operands(
    recipe: Recipe, graph: fx.GraphModule, sites: Sequence[Site], resolution: Resolution
) -> tuple[Shares, list[Diagnostic]]:
    """``graph`` and ``sites`` are as the recipe selects them, before the transforms."""
    rules = [rule for rule in recipe.rules if isinstance(rule.action, ShareRange)]
    if not rules:
        return {}, []
    selection = Selection(sites)
    producers = _producers(graph, sites)
    decisions = {decision.site.key: decision for decision in resolution.decisions}
    nodes: dict[str, fx.Node] = {node.name: node for node in graph.graph.nodes}
    shares: dict[tuple[str, int], Rule] = {}
    problems: list[Diagnostic] = []
    for rule in rules:
        meeting = list(_meetings(sites, selection.of(rule.selector), producers))
        if not meeting:
            problems.append(never_meet(rule))
        quantized = [(s, at) for s, at in meeting if _is_quantized(decisions[s.key], at)]
        if meeting and not quantized:
            problems.append(all_float(rule, [site for site, _ in meeting]))
        for site, places in quantized:
            reason = _obstacle(decisions[site.key], places, [nodes[o] for o in site.operands])
            if reason is None:
                shares |= {(site.key, place): rule for place in places}
            else:
                problems.append(cannot_share(rule, site, reason))
    return shares, problems


def _producers(graph: fx.GraphModule, sites: Sequence[Site]) -> Mapping[str, frozenset[int]]:
    """By node name: the nearest sites upstream, or the node's own."""
    own = {site.node: frozenset({site.index}) for site in sites}
    found: dict[str, frozenset[int]] = {}
    for node in graph.graph.nodes:
        before = [found[used.name] for used in node.all_input_nodes]
        found[node.name] = own.get(node.name, frozenset[int]().union(*before))
    return found


def _meetings(
    sites: Sequence[Site], chosen: frozenset[int], producers: Mapping[str, frozenset[int]]
) -> Iterator[tuple[Site, tuple[int, ...]]]:
    """Sites with the operands that share; an input of the model joins those it meets."""
    for site in sites:
        sources = [producers[operand] for operand in site.operands]
        places = tuple(i for i, source in enumerate(sources) if source <= chosen)
        if len(places) > 1 and any(sources[i] for i in places):
            yield site, places


def _slot(decision: Decision, place: int) -> QuantSlot | FloatSlot:
    return decision.slots["act" if place == 0 else "act2"]


def _is_quantized(decision: Decision, places: tuple[int, ...]) -> bool:
    return any(isinstance(_slot(decision, place), QuantSlot) for place in places)


def _obstacle(
    decision: Decision, places: tuple[int, ...], operands: Sequence[fx.Node]
) -> str | None:
    """Why these operands cannot be on one grid."""
    first = _slot(decision, places[0])
    for place in places:
        spec = _slot(decision, place)
        if isinstance(first, FloatSlot) or isinstance(spec, FloatSlot):
            return "one operand is float"
        if spec.dynamic:
            return "their ranges are found at run time"
        if spec != first:
            return f"their formats differ: `{first.format}` and `{spec.format}`"
        if _channels(operands[place], spec) != _channels(operands[places[0]], first):
            return "they have different numbers of channels, each with a range of its own"
    return None


def _channels(node: fx.Node, spec: QuantSlot) -> int | str | None:
    shape = facts(node).shape
    if not isinstance(spec.granularity, PerChannel) or shape is None:
        return None
    return shape[spec.granularity.axis]


def never_meet(rule: Rule) -> Diagnostic:
    """QR312."""
    return Diagnostic(
        Code.CANNOT_SHARE,
        "no operation reads two of the selected values",
        Label(rule.selector.span, "selects the sites that compute them"),
        help="for the operands of an operation write `share scale for inputs_of(add)`",
    )


def all_float(rule: Rule, sites: Sequence[Site]) -> Diagnostic:
    """QR312."""
    return Diagnostic(
        Code.CANNOT_SHARE,
        "the operations that read the selected values are float: there is no scale to share",
        Label(rule.span),
        notes=some_paths(sites),
        help="quantize their operands with a `use` line, or delete this line",
    )


def cannot_share(rule: Rule, site: Site, reason: str) -> Diagnostic:
    """QR312."""
    return Diagnostic(
        Code.CANNOT_SHARE,
        f"operands of `{site.key}` cannot share one scale: {reason}",
        Label(rule.span),
        help="give `act` and `act2` of this operation one static format",
    )
