"""Bind a recipe to the sites of a model: the last matching line wins.

Each ``use`` or ``skip`` replaces all that was decided for a site; each ``set`` changes one field of
one slot of what is decided so far; what a ``final`` line has decided may be said again but not
changed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias, assert_never

from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.frozen import frozen
from qcompile.policy.assertion import selectors_of
from qcompile.policy.change import Field, legal, value_of
from qcompile.policy.conflicts import (
    final_violated,
    objected_on_site,
    set_on_float,
    set_without_tensor,
    untie_without_tie,
)
from qcompile.policy.doubtful import doubtful_rules
from qcompile.policy.lost_rules import lost_rules
from qcompile.policy.nothing_quantized import nothing_quantized
from qcompile.policy.recipe import (
    SLOTS,
    ChooseScheme,
    FallBack,
    Recipe,
    Rule,
    SetField,
    SetSite,
    SettableSlot,
    ShareRange,
    SkipSite,
    SlotName,
    UseScheme,
)
from qcompile.policy.regex_dots import unescaped_dots
from qcompile.policy.resolution import Decision, Resolution, TraceStep
from qcompile.policy.rungs import FEWEST_BITS, Rungs
from qcompile.policy.scheme import FloatSlot, QuantSlot, Scheme, keeps_apart
from qcompile.policy.selection import Selection
from qcompile.policy.site import Kind, Site
from qcompile.policy.slot_rules import Objection
from qcompile.policy.unmatched import empty_selection, unmatched_patterns

UNTIED = SetSite("untie", True)
Slots: TypeAlias = dict[SlotName, QuantSlot | FloatSlot]


@frozen
class State:
    """What is decided for one site after some of the rules."""

    slots: Slots
    scheme: Scheme | None = None
    rule: Rule | None = None
    patches: dict[tuple[SlotName, Field], Rule] = field(
        default_factory=dict[tuple[SlotName, Field], Rule]
    )
    tie: Rule | None = None
    """The last `set untie`."""

    @property
    def untied(self) -> Rule | None:
        """The line that gives it a weight of its own."""
        rule = self.tie
        return rule if rule is not None and rule.action == UNTIED else None

    def has_say(self, rule: Rule) -> bool:
        deciding = (self.rule, self.tie, *self.patches.values())
        return any(rule is other for other in deciding)


@dataclass(slots=True)
class Course:
    """One site on its way through the rules."""

    site: Site
    state: State
    met: list[Rule] = field(default_factory=list[Rule])
    left: dict[int, Slots] = field(default_factory=dict[int, Slots])
    """What each of ``met`` has made of the slots, by its place; a refused one has no entry."""
    locked: Rule | None = None
    """The ``final`` line that decided the whole site."""
    locked_fields: dict[tuple[SlotName, Field], Rule] = field(
        default_factory=dict[tuple[SlotName, Field], Rule]
    )
    locked_tie: Rule | None = None

    @property
    def may_fall_back(self) -> bool:
        """What is skipped stays float, and what a ``final`` line gave stays as it is."""
        return self.state.scheme is not None and self.locked is None

    def violated(self, after: State) -> Rule | None:
        """The ``final`` line that would not hold in ``after``."""
        before = self.state
        if self.locked is not None and (
            after.scheme != before.scheme or after.slots != before.slots
        ):
            return self.locked
        for (slot, name), rule in self.locked_fields.items():
            if value_of(after.slots[slot], name) != value_of(before.slots[slot], name):
                return rule
        return self.locked_tie if (after.untied is None) != (before.untied is None) else None


@dataclass(slots=True)
class Findings:
    """What went wrong with one rule, by kind, and on which sites."""

    violated: dict[int, tuple[Rule, list[Site]]] = field(
        default_factory=dict[int, tuple[Rule, list[Site]]]
    )
    on_float: list[Site] = field(default_factory=list[Site])
    objections: dict[Objection, list[Site]] = field(default_factory=dict[Objection, list[Site]])
    without_tensor: list[Site] = field(default_factory=list[Site])
    unshared: list[Site] = field(default_factory=list[Site])

    def diagnostics(self, rule: Rule, met: int) -> list[Diagnostic]:
        found = [final_violated(rule, final, at) for final, at in self.violated.values()]
        found += [objected_on_site(rule, wrong, at) for wrong, at in self.objections.items()]
        if met and len(self.unshared) == met:
            found.append(untie_without_tie(rule, self.unshared))
        if isinstance(rule.action, SetField):
            if self.on_float:
                found.append(set_on_float(rule, rule.action, self.on_float))
            if met and len(self.without_tensor) == met:
                found.append(set_without_tensor(rule, rule.action, self.without_tensor))
        return found


def resolve(
    recipe: Recipe, sites: Sequence[Site], rungs: Rungs = FEWEST_BITS
) -> tuple[Resolution, list[Diagnostic]]:
    """The resolution is whole even where there are errors: such a line has no effect there.

    ``rungs`` say what each site takes of a `choose` line.
    """
    selection = Selection(sites)
    courses = {site.index: Course(site, State(_float_slots())) for site in sites}
    diagnostics: list[Diagnostic] = []
    faulty: set[int] = set()
    for number, rule in enumerate(recipe.rules):
        found = _check(rule, selection)
        if not found:
            met = [courses[index] for index in sorted(selection.of(rule.selector))]
            if isinstance(rule.action, FallBack):
                met = [course for course in met if course.may_fall_back]
            found = _apply(rule, met, recipe, rungs)
        if found:
            faulty.add(number)
        diagnostics += found
    resolution = Resolution(tuple(_decision(courses[site.index]) for site in sites))
    own = [r for n, r in enumerate(recipe.rules) if n not in faulty and r.policy == recipe.policy]
    if not any(isinstance(rule.action, FallBack) for rule in recipe.rules):
        # a `final` line guards what later lines say, even where they say the same
        diagnostics += lost_rules([r for r in own if r.has_say and not r.final], resolution)
    diagnostics += doubtful_rules(own, selection)
    diagnostics += [item for r in own for item in unescaped_dots(r.selector, selection)]
    diagnostics += [] if faulty else nothing_quantized(recipe, resolution)
    for selector in (one for item in recipe.assertions for one in selectors_of(item.claim)):
        diagnostics += unmatched_patterns(selector, selection)
    return resolution, diagnostics


def selects_nothing(rule: Rule, selection: Selection) -> bool:
    """The rule is a mistake in this model (QR301, QR302)."""
    return bool(_check(rule, selection))


def _check(rule: Rule, selection: Selection) -> list[Diagnostic]:
    """Whether the rule selects something, unless it need not."""
    if rule.optional:
        return []
    unmatched = unmatched_patterns(rule.selector, selection)
    if unmatched or selection.of(rule.selector):
        return unmatched
    return [empty_selection(rule.selector, selection)]


def _apply(rule: Rule, met: Sequence[Course], recipe: Recipe, rungs: Rungs) -> list[Diagnostic]:
    findings = Findings()
    for course in met:
        course.met.append(rule)
        after = _after(rule, course, recipe, rungs, findings)
        if after is None:
            continue
        final = course.violated(after)
        if final is not None:
            findings.violated.setdefault(id(final), (final, []))[1].append(course.site)
            continue
        course.state = after
        course.left[len(course.met) - 1] = after.slots
        if rule.final:
            _lock(rule, course)
    return findings.diagnostics(rule, len(met))


def _after(
    rule: Rule, course: Course, recipe: Recipe, rungs: Rungs, findings: Findings
) -> State | None:
    match rule.action:
        case UseScheme(name):
            return _with_scheme(rule, recipe.schemes[name], course.site)
        case FallBack(name):
            return _fallen_back(_with_scheme(rule, recipe.schemes[name], course.site), course)
        case ChooseScheme(ladder):
            name = rungs.scheme(course.site.key, ladder)
            return _with_scheme(rule, recipe.schemes[name], course.site)
        case SkipSite():
            return State(_float_slots(), None, rule)
        case SetField():
            return _patched(rule, rule.action, course, findings)
        case SetSite("untie", value):
            return _tied(rule, value, course, findings)
        case SetSite() | ShareRange():
            return None
        case _:
            assert_never(rule.action)


def _with_scheme(rule: Rule, scheme: Scheme, site: Site) -> State:
    return State(_slots_of(scheme, site), scheme, rule)


def _fallen_back(state: State, course: Course) -> State:
    """With the fields that ``final`` lines have set, where the scheme can have them."""
    slots, patches = dict(state.slots), dict(state.patches)
    for (name, field_), rule in course.locked_fields.items():
        slot, action = slots[name], rule.action
        if not isinstance(slot, QuantSlot) or not isinstance(action, SetField):
            continue
        spec = legal(name, slot, action.change)
        if not isinstance(spec, Objection):
            slots[name], patches[name, field_] = spec, rule
    return replace(state, slots=slots, patches=patches, tie=course.state.tie)


def _patched(rule: Rule, action: SetField, course: Course, findings: Findings) -> State | None:
    state, site = course.state, course.site
    is_kv = action.slot == "act2" and keeps_apart(state.scheme, site.kind)
    if is_kv or not has_tensor(site, action.slot):
        findings.without_tensor.append(site)
        return None
    slots, patches = dict(state.slots), dict(state.patches)
    for name in _reached(action.slot, course):
        slot = slots[name]
        if not isinstance(slot, QuantSlot):
            findings.on_float.append(site)
            return None
        spec = legal(name, slot, action.change)
        if isinstance(spec, Objection):
            findings.objections.setdefault(spec, []).append(site)
            return None
        slots[name] = spec
        patches[name, action.change.field] = rule
    return replace(state, slots=slots, patches=patches)


def _tied(rule: Rule, value: bool, course: Course, findings: Findings) -> State | None:
    if course.site.shared and course.site.weight is not None:
        return replace(course.state, tie=rule)
    if value:
        findings.unshared.append(course.site)
    return None


def _reached(slot: SettableSlot, course: Course) -> list[SlotName]:
    """``act`` stands for all operands until the scheme says something of the others."""
    if slot == "kv":
        return ["act2"]
    scheme, site = course.state.scheme, course.site
    follows = slot == "act" and scheme is not None and scheme.act2_follows
    follows = follows and not keeps_apart(scheme, site.kind)
    return [slot, "act2"] if follows and has_tensor(site, "act2") else [slot]


def _lock(rule: Rule, course: Course) -> None:
    if isinstance(rule.action, SetSite):
        course.locked_tie = rule
        return
    if not isinstance(rule.action, SetField):
        course.locked = rule
        return
    for key, other in course.state.patches.items():
        if other is rule:
            course.locked_fields[key] = rule


def has_tensor(site: Site, slot: SettableSlot) -> bool:
    match slot:
        case "kv":
            return site.kind is Kind.ATTENTION and len(site.operands) >= 2
        case "weight":
            return site.weight is not None
        case "act":
            return len(site.operands) >= 1
        case "act2":
            return len(site.operands) >= 2


def _float_slots() -> Slots:
    return {slot: FloatSlot() for slot in SLOTS}


def _slots_of(scheme: Scheme, site: Site) -> Slots:
    others = scheme.kv if site.kind is Kind.ATTENTION else scheme.act2
    given: Slots = {"weight": scheme.weight, "act": scheme.act, "act2": others}
    return {slot: given[slot] if has_tensor(site, slot) else FloatSlot() for slot in SLOTS}


def _decision(course: Course) -> Decision:
    state = course.state
    return Decision(
        site=course.site,
        scheme=state.scheme.name if state.scheme is not None else None,
        rule=state.rule,
        slots=state.slots,
        patches=state.patches,
        untied=state.untied,
        trace=tuple(
            TraceStep(rule, state.has_say(rule), course.left.get(place))
            for place, rule in enumerate(course.met)
        ),
    )
