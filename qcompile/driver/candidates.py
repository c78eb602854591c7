"""What a budget may choose from: for each site that is left open, a plan for each rung.

The graph is that of the fewest bits; the rules of the analysis pass every rung on it, so that each
candidate is legal, and bytes are those of a plan.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from math import ceil, floor, prod

import networkx as nx
from pydantic import JsonValue, TypeAdapter

from qcompile.analysis.accumulator import ACCUMULATOR_BITS
from qcompile.analysis.context import Context
from qcompile.analysis.decide import decide
from qcompile.analysis.forecast import forecast
from qcompile.analysis.fusions import parallel_projections
from qcompile.analysis.own_bias import with_refits
from qcompile.analysis.rules.registry import run_rules
from qcompile.analysis.rules.scale_conflict import on_one_grid
from qcompile.analysis.shared_operands import shared_operands
from qcompile.analysis.size_parts import size_parts
from qcompile.analysis.target_check import check_target
from qcompile.capture.sites import find_sites
from qcompile.diagnostics.diagnostic import Diagnostic, has_errors, in_order
from qcompile.diagnostics.failure import CompileError
from qcompile.driver.bind import Bound, targets_of
from qcompile.driver.tunes import tunings_by_key
from qcompile.methods.tuning import Tuning
from qcompile.policy.assertion import Failure, Measured, over_budget
from qcompile.policy.choice_limits import ChoiceLimit
from qcompile.policy.core import SitePlan
from qcompile.policy.recipe import TargetName
from qcompile.policy.resolution import Decision, Resolution
from qcompile.policy.resolve import resolve
from qcompile.policy.rungs import Rungs
from qcompile.policy.scheme import QuantSlot
from qcompile.policy.site import Site
from qcompile.policy.size_part import largest_parts
from qcompile.store.canonical import canonical_json, sha256_hex
from qcompile.targets.target import Target

PLACES = {"decided_by", "patched_by", "shared_by"}
"""Fields of a tensor's plan that name lines of the recipe."""


@dataclass(frozen=True, slots=True, eq=False)
class Rung:
    """The whole model with every open site on one rung."""

    resolution: Resolution
    plans: Mapping[str, SitePlan]
    """By the key of the site."""
    joins: tuple[tuple[str, ...], ...]
    """Keys of sites whose operands have to be on one grid (QR503, QR504)."""
    measured: Measured


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Sites that must agree stand on one rung."""

    decisions: tuple[tuple[Decision, ...], ...]
    """By rung, of each site."""
    plans: tuple[tuple[SitePlan, ...], ...]
    """The same as plans."""

    @property
    def ladder(self) -> tuple[str, ...]:
        return self.decisions[0][0].ladder

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(one.site.key for one in self.decisions[0])

    def candidate(self, rung: int, tunings: Sequence[Tuning], moved: JsonValue) -> str:
        """Hash of what a measurement of a rung depends on, beside model and data.

        ``tunings`` are those of the sites, ``moved`` is what the factors of transforms come from.
        """
        tuned: list[JsonValue] = [
            TypeAdapter(Tuning).dump_python(tuning, mode="json") for tuning in tunings
        ]
        return sha256_hex(canonical_json([tensors_of(self.plans[rung]), tuned, moved]))

    def bytes_on(self, rung: int) -> int:
        """Of what is quantized on some rung; a shared weight counts once."""
        tensors = [tensor for plan in self.plans[rung] for tensor in plan.tensors]
        everywhere = [tensor for plans in self.plans for plan in plans for tensor in plan.tensors]
        weights = {one.storage: one.bytes_before for one in everywhere if one.slot == "weight"}
        weights |= {one.storage: one.bytes_after for one in tensors if one.slot == "weight"}
        beside = sum(one.bytes_after for one in tensors if one.slot != "weight")
        return sum(weights.values()) + beside

    def cost(self, limit: ChoiceLimit, rung: int) -> int:
        """What a rung takes of what is limited, in whole units."""
        if limit.figure == "size":
            return self.bytes_on(rung)
        return sum(_beyond(limit, one) for one in self.decisions[rung])

    def least_cost(self, limit: ChoiceLimit) -> int:
        return min(self.cost(limit, rung) for rung in range(len(self.ladder)))


def tensors_of(plans: Sequence[SitePlan]) -> JsonValue:
    """By site, and nothing of where a rule stands in the recipe."""
    return {
        plan.key: [one.model_dump(mode="json", exclude=PLACES) for one in plan.tensors]
        for plan in plans
    }


def rungs_of(bound: Bound) -> list[Rung]:
    """From the fewest bits to the most. Raises ``CompileError`` for what is legal on none of them.

    What a rung makes of transforms, shared ranges and ``tune`` statements is left to the choice.
    """
    longest = max(len(one.ladder) for one in bound.resolution.decisions)
    sites, (targets, _) = find_sites(bound.graph), targets_of(bound.recipe)
    return [_rung(bound, number, sites, targets) for number in range(longest)]


def groups_of(bound: Bound, rungs: Sequence[Rung]) -> list[Group]:
    """In the order of the graph."""
    first = rungs[0]
    found = {
        one.site.key: one.ladder
        for one in first.resolution.decisions
        if one.ladder and one.site.key in first.plans
    }
    together: nx.Graph[str] = nx.Graph()
    together.add_nodes_from(found)
    for one, other in _pairs(bound, rungs):
        if one in found and other in found and found[one] == found[other]:
            together.add_edge(one, other)
    place = {key: number for number, key in enumerate(found)}
    joined = [sorted(keys, key=place.__getitem__) for keys in nx.connected_components(together)]
    decisions = [{one.site.key: one for one in rung.resolution.decisions} for rung in rungs]
    groups: list[Group] = []
    for keys in sorted(joined, key=lambda keys: place[keys[0]]):
        numbers = range(len(found[keys[0]]))
        groups.append(
            Group(
                tuple(tuple(decisions[number][key] for key in keys) for number in numbers),
                tuple(tuple(rungs[number].plans[key] for key in keys) for number in numbers),
            )
        )
    return groups


def room(limit: ChoiceLimit, bound: Bound, groups: Sequence[Group]) -> int:
    """What the groups may take, after all that is decided otherwise."""
    if limit.figure == "size":
        most = ceil(limit.most) - 1 if limit.is_strict else floor(limit.most)
        return most - _fixed_bytes(bound, groups)
    open_sites = {key for group in groups for key in group.keys}
    rest = [one for one in bound.resolution.decisions if one.site.key not in open_sites]
    taken = sum(_beyond(limit, one) for one in rest)
    return -taken - (1 if limit.is_strict else 0)


def out_of_reach(
    limits: Sequence[ChoiceLimit], bound: Bound, groups: Sequence[Group]
) -> Iterator[Diagnostic]:
    """QR601 for each limit that no choice keeps; what choices cost is not known yet."""
    for limit in (one for one in limits if one.figure != "loss_increase"):
        least = sum(group.least_cost(limit) for group in groups)
        if least > room(limit, bound, groups):
            shown, parts = "`avg_bits(weight)` is more whatever is chosen", ()
            if limit.figure == "size":
                total = least + _fixed_bytes(bound, groups)
                shown = f"`size` is {total} or more, whatever is chosen"
                parts = largest_parts(bound.measured.parts)
            yield over_budget(limit.row, Failure(shown, parts=parts))


def _fixed_bytes(bound: Bound, groups: Sequence[Group]) -> int:
    return bound.measured.bytes_total - sum(group.bytes_on(0) for group in groups)


def _rung(
    bound: Bound,
    number: int,
    sites: tuple[Site, ...],
    targets: Sequence[tuple[TargetName, Target]],
) -> Rung:
    recipe, graph = replace(bound.recipe, assertions=(), budget=None), bound.graph
    resolution, found = resolve(recipe, bound.sites, Rungs(otherwise=number))
    narrowest = min((one.accumulator_bits for _, one in targets), default=ACCUMULATOR_BITS)
    context = Context(recipe, graph, sites, resolution, narrowest)
    found += run_rules(context)
    shares, _ = shared_operands(recipe, bound.seen.captured.module, bound.sites, resolution)
    planned = decide(graph, sites, bound.units, resolution, shares)
    found += [problem for one in targets for problem in check_target(*one, planned)]
    if has_errors(found):
        raise CompileError([_of_rung(one, number) for one in in_order(found) if one.is_error])
    plans = with_refits(graph, planned, recipe.tuning, tunings_by_key(bound.tunes))
    sizes = forecast(graph, bound.units, plans)
    return Rung(
        resolution=resolution,
        plans={plan.key: plan for plan in plans},
        joins=tuple(tuple(keys) for keys in on_one_grid(context)),
        measured=Measured(
            bytes_total=sum(unit.bytes_after for unit in sizes),
            blocks=bound.measured.blocks,
            parts=size_parts(graph, plans),
        ),
    )


def _of_rung(problem: Diagnostic, number: int) -> Diagnostic:
    note = f"so it is on rung {number + 1} of `choose`: every scheme must be legal for every layer"
    return replace(problem, notes=(*problem.notes, note))


def _pairs(bound: Bound, rungs: Sequence[Rung]) -> Iterator[tuple[str, str]]:
    """Sites that must agree.

    They use one weight (QR502), read one input and run as one product (QR506), or join what has to
    be on one grid (QR503, QR504).
    """
    first: dict[str, str] = {}
    for rung in rungs:
        for key, plan in rung.plans.items():
            for tensor in plan.tensors:
                if tensor.slot == "weight" and tensor.storage is not None:
                    yield first.setdefault(tensor.storage, key), key
        for keys in rung.joins:
            yield from pairwise(keys)
    for group in parallel_projections(bound.sites):
        yield from pairwise(site.key for site in group)


def _beyond(limit: ChoiceLimit, decision: Decision) -> int:
    """By how many bits a weight goes beyond the mean that is allowed.

    Whole, in parts of the limit as it is written: ``4.3`` has tenths.
    """
    spec, weight = decision.slots["weight"], decision.site.weight
    if not isinstance(spec, QuantSlot) or weight is None:
        return 0
    most = Fraction(str(limit.most))
    return prod(weight.shape) * (spec.bits * most.denominator - most.numerator)
