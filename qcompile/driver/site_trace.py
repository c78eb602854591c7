"""``plan --trace``: one site, what the graph says of it, and every rule with what it gave."""

from typing import Literal

from qcompile.capture.sites import find_sites
from qcompile.driver.plan import Planned
from qcompile.policy.choice import GroupPlan
from qcompile.policy.core import Frozen, RuleRef, SiteCompute
from qcompile.policy.recipe import Rule, SlotName
from qcompile.policy.resolution import Decision, TraceStep
from qcompile.policy.scheme import FloatSlot, QuantSlot
from qcompile.policy.site import Site

Slots = dict[SlotName, QuantSlot | FloatSlot]


class TracedRule(Frozen):
    """A rule of the policy, in the order in which rules are applied."""

    rule: RuleRef
    effect: Literal["decides", "overridden", "refused", "elsewhere"]
    """``decides``: has a say in the end; ``elsewhere``: does not select this site."""
    gave: Slots | None
    """Every slot after the rule; ``None`` where it changed nothing here."""


class TracedSite(Frozen):
    """What the graph says; facts that do not apply are ``None``."""

    key: str
    kind: str
    op: str
    inside: tuple[str, ...]
    unit: str | None
    """The block or stretch that is run as one; ``None`` for a site that a transform took away."""
    weight: str | None
    shape: tuple[int, ...] | None
    dtype: str | None
    tied_to: str | None
    """The first parameter of the same storage, where that is another."""
    shared: bool
    groups: int | None
    kernel: tuple[int, ...] | None
    stride: tuple[int, ...] | None
    depth: int
    params: int
    reads: tuple[str, ...]
    """The nearest sites upstream."""
    feeds: tuple[str, ...]


class SiteTrace(Frozen):
    site: TracedSite
    rules: tuple[TracedRule, ...]
    scheme: str | None
    outcome: Literal["quantized", "float", "skipped", "untouched"]
    slots: Slots
    choice: GroupPlan | None
    """What a budget chose from here; ``None`` where the policy decides."""
    compute: SiteCompute | None


def site_trace(planned: Planned, key: str) -> SiteTrace:
    """Raises ``CompileError`` (QR301) where there is no such site."""
    decision = planned.trace(key)
    steps = {id(step.rule): step for step in decision.trace}
    return SiteTrace(
        site=_site(planned, decision.site),
        rules=tuple(_rule(rule, steps.get(id(rule))) for rule in planned.bound.recipe.rules),
        scheme=decision.scheme,
        outcome=_outcome(decision),
        slots=dict(decision.slots),
        choice=_choice(planned, key),
        compute=next((one for one in planned.plan.beside.compute if one.key == key), None),
    )


def _choice(planned: Planned, key: str) -> GroupPlan | None:
    choice = planned.plan.beside.choice
    return next((one for one in choice.groups if key in one.sites), None) if choice else None


def _rule(rule: Rule, step: TraceStep | None) -> TracedRule:
    if step is None:
        return TracedRule(rule=rule.reference, effect="elsewhere", gave=None)
    if step.slots is None:
        return TracedRule(rule=rule.reference, effect="refused", gave=None)
    effect = "decides" if step.won else "overridden"
    return TracedRule(rule=rule.reference, effect=effect, gave=dict(step.slots))


def _outcome(decision: Decision) -> Literal["quantized", "float", "skipped", "untouched"]:
    if decision.is_untouched:
        return "untouched"
    if decision.is_skipped:
        return "skipped"
    return "quantized" if decision.is_quantized else "float"


def _site(planned: Planned, site: Site) -> TracedSite:
    keys = {other.index: other.key for other in planned.bound.sites}
    weight = site.weight
    now = next((one for one in find_sites(planned.bound.graph) if one.key == site.key), site)
    storage = now.weight.storage if now.weight else None
    return TracedSite(
        key=site.key,
        kind=site.kind.value,
        op=site.op,
        inside=site.scopes,
        unit=next((u.name for u in planned.bound.units if site.node in u.nodes), None),
        weight=weight.path if weight else None,
        shape=weight.shape if weight else None,
        dtype=weight.dtype if weight else None,
        tied_to=storage if weight and storage != weight.path else None,
        shared=now.shared,
        groups=site.groups,
        kernel=site.kernel,
        stride=site.stride,
        depth=site.depth,
        params=site.params,
        reads=tuple(keys[index] for index in site.producers),
        feeds=tuple(other.key for other in planned.bound.sites if site.index in other.producers),
    )
