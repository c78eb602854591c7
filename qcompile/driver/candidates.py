"""What a budget may choose from: for each site that is left open, a plan for each rung.

The recipe is bound once for each rung of its ladders, so that every candidate is a plan that the
rules have passed, with bytes that are those of a plan.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from math import ceil, floor, prod

import networkx as nx
from pydantic import JsonValue, TypeAdapter

from qcompile.analysis.fusions import parallel_projections
from qcompile.driver.bind import Bound, bind_seen
from qcompile.methods.tuning import Tuning
from qcompile.policy.choice_limits import ChoiceLimit
from qcompile.policy.core import SitePlan
from qcompile.policy.recipe import Recipe
from qcompile.policy.resolution import Decision
from qcompile.policy.rungs import Rungs
from qcompile.policy.scheme import QuantSlot
from qcompile.store.canonical import canonical_json, sha256_hex

PLACES = {"decided_by", "patched_by", "shared_by"}
"""Fields of a tensor's plan that name lines of the recipe."""


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Sites that must agree stand on one rung."""

    decisions: tuple[Decision, ...]
    plans: tuple[tuple[SitePlan, ...], ...]
    """By rung, of each site."""

    @property
    def ladder(self) -> tuple[str, ...]:
        return self.decisions[0].ladder

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(one.site.key for one in self.decisions)

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
        pairs = zip(self.decisions, self.plans[rung], strict=True)
        return sum(_beyond(limit, one, _weight(plan)) for one, plan in pairs)


def tensors_of(plans: Sequence[SitePlan]) -> JsonValue:
    """By site, and nothing of where a rule stands in the recipe."""
    return {
        plan.key: [one.model_dump(mode="json", exclude=PLACES) for one in plan.tensors]
        for plan in plans
    }


def bound_on(recipe: Recipe, bound: Bound, rungs: Rungs) -> Bound:
    return bind_seen(recipe, bound.seen, trusted=bound.trusted, rungs=rungs)


def groups_of(bound: Bound) -> list[Group]:
    """In the order of the graph. Raises ``CompileError`` for a candidate that is not legal."""
    rungs = [bound, *_further(bound)]
    plans = [{plan.key: plan for plan in one.planned} for one in rungs]
    found = {
        one.site.key: one
        for one in bound.resolution.decisions
        if one.ladder and one.site.key in plans[0]
    }
    together: nx.Graph[str] = nx.Graph()
    together.add_nodes_from(found)
    for one, other in _pairs(bound, plans[0]):
        if one in found and other in found and found[one].ladder == found[other].ladder:
            together.add_edge(one, other)
    place = {key: number for number, key in enumerate(found)}
    joined = [sorted(keys, key=place.__getitem__) for keys in nx.connected_components(together)]
    return [_group(keys, found, plans) for keys in sorted(joined, key=lambda keys: place[keys[0]])]


def room(limit: ChoiceLimit, bound: Bound, groups: Sequence[Group]) -> int:
    """What the groups may take, after all that is decided otherwise."""
    if limit.figure == "size":
        most = ceil(limit.most) - 1 if limit.is_strict else floor(limit.most)
        fixed = bound.measured.bytes_total - sum(group.bytes_on(0) for group in groups)
        return most - fixed
    open_sites = {key for group in groups for key in group.keys}
    rest = [one for one in bound.resolution.decisions if one.site.key not in open_sites]
    taken = sum(_beyond(limit, one, dict(one.quantized).get("weight")) for one in rest)
    return -taken - (1 if limit.is_strict else 0)


def _further(bound: Bound) -> Iterator[Bound]:
    """The same with more bits wherever something is to be chosen; no claim is made of these."""
    longest = max(len(one.ladder) for one in bound.resolution.decisions)
    recipe = replace(bound.recipe, assertions=(), budget=None)
    for rung in range(1, longest):
        yield bound_on(recipe, bound, Rungs(otherwise=rung))


def _pairs(bound: Bound, plans: Mapping[str, SitePlan]) -> Iterator[tuple[str, str]]:
    """Sites that use one weight (QR502), or read one input and run as one product (QR506)."""
    first: dict[str | None, str] = {}
    for key, plan in plans.items():
        for tensor in plan.tensors:
            if tensor.slot == "weight":
                yield first.setdefault(tensor.storage, key), key
    for group in parallel_projections(bound.sites):
        yield from pairwise(site.key for site in group)


def _group(
    keys: Sequence[str],
    found: Mapping[str, Decision],
    plans: Sequence[Mapping[str, SitePlan]],
) -> Group:
    decisions = tuple(found[key] for key in keys)
    rungs = range(len(decisions[0].ladder))
    return Group(decisions, tuple(tuple(plans[rung][key] for key in keys) for rung in rungs))


def _beyond(limit: ChoiceLimit, decision: Decision, spec: QuantSlot | None) -> int:
    """By how many bits a weight goes beyond the mean that is allowed.

    Whole, in parts of the limit as it is written: ``4.3`` has tenths.
    """
    if spec is None or decision.site.weight is None:
        return 0
    most = Fraction(str(limit.most))
    return prod(decision.site.weight.shape) * (spec.bits * most.denominator - most.numerator)


def _weight(plan: SitePlan) -> QuantSlot | None:
    return next((tensor.spec for tensor in plan.tensors if tensor.slot == "weight"), None)
