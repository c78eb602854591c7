"""Policies: includes, ``extends`` and ``within`` worked into one list of rules."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.diagnostics.frozen import frozen
from qcompile.diagnostics.source import Span
from qcompile.policy.attributes import unknown_setting
from qcompile.policy.change import (
    Change,
    SetDynamic,
    SetGranularity,
    SetObserver,
    SetSymmetric,
    legal,
)
from qcompile.policy.expression import Checker
from qcompile.policy.lower_ladder import chosen, scheme_key
from qcompile.policy.modifiers import (
    SETTABLE,
    axis,
    bits,
    granularity,
    group_size,
    objected,
    observer,
    truth,
)
from qcompile.policy.number_format import IntFormat
from qcompile.policy.recipe import (
    SETTABLE_SLOTS,
    Action,
    Rule,
    SetField,
    SetSite,
    SettableSlot,
    ShareRange,
    SkipSite,
    UseScheme,
)
from qcompile.policy.scheme import Scheme
from qcompile.policy.scope import (
    forms_a_cycle,
    in_dependency_order,
    unknown_name,
)
from qcompile.policy.selector import AllOf, Selector
from qcompile.policy.slot_rules import Objection, initial
from qcompile.policy.type_errors import wrong_type
from qcompile.policy.unavailable import not_available
from qcompile.syntax import nodes
from qcompile.syntax.nodes import Call, Expr, Name, PolicyDef, Ref

MAX_RULES = 10_000
MAIN = "main"
OF_A_SITE = ("untie", "per_call")
LATER_SETTABLE = ("scale", "zero_point", "exponent")


@frozen
class Included:
    """The rules of another policy belong here, each narrowed by ``scopes``."""

    policy: str
    scopes: tuple[Selector, ...]
    span: Span


Item: TypeAlias = Rule | Included


def lower_policies(
    checker: Checker, schemes: Mapping[str, Scheme]
) -> Mapping[str, tuple[Rule, ...]]:
    """The whole list of rules of every policy; problems go to ``checker``."""
    scope = checker.scope
    found = [(key, scope.definitions[key].node) for key in scope.keys("policy")]
    items = {
        key: _Reader(key, node, schemes, checker).items()
        for key, node in found
        if isinstance(node, PolicyDef)
    }
    graph = {
        name: [item.policy for item in listed if isinstance(item, Included)]
        for name, listed in items.items()
    }
    order, cycles = in_dependency_order(graph)
    for cycle in cycles:
        closing = next(
            item.span
            for item in items[cycle[0]]
            if isinstance(item, Included) and item.policy == cycle[1]
        )
        checker.report(forms_a_cycle("including policies", cycle, closing))
    rules: dict[str, tuple[Rule, ...]] = {}
    for name in order:
        rules[name] = _flat(items[name], rules, checker)
    return rules


def _flat(
    items: Sequence[Item], known: Mapping[str, tuple[Rule, ...]], checker: Checker
) -> tuple[Rule, ...]:
    flat: list[Rule] = []
    for item in items:
        match item:
            case Rule():
                flat.append(item)
            case Included(policy, scopes):
                flat.extend(_narrowed(rule, scopes) for rule in known.get(policy, ()))
        if len(flat) > MAX_RULES:
            checker.report(too_many_rules(item.span))
            return ()
    return tuple(flat)


def _narrowed(rule: Rule, scopes: tuple[Selector, ...]) -> Rule:
    if not scopes:
        return rule
    return replace(rule, selector=AllOf((rule.selector, *scopes), rule.selector.span))


class _Reader:
    """Reads the lines of one policy."""

    def __init__(
        self, key: str, policy: PolicyDef, schemes: Mapping[str, Scheme], checker: Checker
    ) -> None:
        self.key = key
        self.schemes = schemes
        self.policy = policy
        self.checker = checker

    def items(self) -> list[Item]:
        base = [] if self.policy.base is None else self._include(self.policy.base, ())
        return [*base, *self._lines(self.policy.rules, ())]

    def _lines(self, rules: Sequence[nodes.Rule], scopes: tuple[Selector, ...]) -> list[Item]:
        return [item for rule in rules for item in self._line(rule, scopes)]

    def _line(self, rule: nodes.Rule, scopes: tuple[Selector, ...]) -> list[Item]:
        match rule:
            case nodes.Use():
                return self._rule(rule, self._use(rule.scheme), scopes)
            case nodes.Skip():
                return self._rule(rule, SkipSite(), scopes)
            case nodes.SetField():
                return self._rule(rule, self._set(rule), scopes)
            case nodes.Include(policy):
                return self._include(policy, scopes)
            case nodes.Within(scope, inner):
                narrower = self.checker.rule_selector(scope)
                inside = self._lines(inner, (*scopes, narrower) if narrower else scopes)
                return [] if narrower is None else inside
            case nodes.Share(what):
                return self._rule(rule, shared(what, self.checker), scopes)
            case nodes.Choose(ladder):
                return self._rule(rule, chosen(ladder, self.schemes, self.checker), scopes)

    def _rule(
        self,
        rule: nodes.Use | nodes.Skip | nodes.SetField | nodes.Share | nodes.Choose,
        action: Action | None,
        scopes: tuple[Selector, ...],
    ) -> list[Item]:
        selector = self.checker.rule_selector(rule.selector)
        if selector is None or action is None:
            return []
        plain = isinstance(rule, nodes.Share | nodes.Choose)  # these are never final or optional
        final, optional = (False, False) if plain else (rule.final, rule.optional)
        line = Rule(action, selector, final, optional, self.key, rule.span)
        return [_narrowed(line, scopes)]

    def _include(self, ref: Ref, scopes: tuple[Selector, ...]) -> list[Item]:
        scope = self.checker.scope
        definition = scope.look_up(ref, "policy")
        if definition is not None:
            return [Included(definition.key, scopes, ref.span)]
        if not scope.is_broken(ref):
            own = self.policy.name.text
            names = [name for name in scope.names(ref.span, "policy") if name != own]
            self.checker.report(unknown_name(ref, "policy", scope, names))
        return []

    def _use(self, ref: Ref) -> Action | None:
        key = scheme_key(ref, self.checker)
        return None if key is None else UseScheme(key)

    def _set(self, rule: nodes.SetField) -> Action | None:
        field = rule.field
        if rule.slot is None:
            return self._set_site(field, rule.value)
        if field.text in LATER_SETTABLE:
            way_out = "leave the line out"
            self.checker.report(not_available(f"`set {field.text}`", field.span, way_out))
            return None
        slot = _slot(rule.slot)
        if slot is None:
            what = f"the slot `{rule.slot.text}`"
            self.checker.report(not_available(what, rule.slot.span, "leave the line out"))
            return None
        change = self._change(field, rule.value)
        if change is None:
            return None
        wrong = _never_right(slot, change)
        if wrong is not None:
            self.checker.report(objected(wrong, rule.value.span))
            return None
        return SetField(slot, change)

    def _set_site(self, field: Name, value: Expr) -> Action | None:
        match field.text:
            case "untie" | "per_call" as name:
                yes = truth(value, self.checker)
                return None if yes is None else SetSite(name, yes)
            case _:
                self.checker.report(unknown_setting(field, "`set` without a slot", OF_A_SITE))
                return None

    def _change(self, field: Name, value: Expr) -> Change | None:
        match field.text:
            case "bits":
                return bits(value, self.checker)
            case "group_size":
                return group_size(value, self.checker)
            case "axis":
                return axis(value, self.checker)
            case "granularity":
                return self._granularity(value)
            case "observer":
                found = observer(value, self.checker)
                return None if found is None else SetObserver(found)
            case "symmetric" | "dynamic":
                yes = truth(value, self.checker)
                if yes is None:
                    return None
                return SetSymmetric(yes) if field.text == "symmetric" else SetDynamic(yes)
            case _:
                self.checker.report(unknown_setting(field, "`set`", SETTABLE))
                return None

    def _granularity(self, value: Expr) -> Change | None:
        match value:
            case Ref((name,)) if name.startswith("per_"):
                return granularity(Name(name, value.span), None, self.checker)
            case Call(Ref((name,)), args) if name.startswith("per_"):
                return granularity(Name(name, value.func.span), args, self.checker)
            case _:
                wanted = "a granularity such as `per_channel`"
                self.checker.report(wrong_type(wanted, "something else", value.span))
                return None


def shared(what: Name, checker: Checker) -> ShareRange | None:
    match what.text:
        case "scale" | "zero_point" as known:
            return ShareRange(known)
        case _:
            checker.report(unknown_setting(what, "`share`", ("scale", "zero_point")))
            return None


def _slot(name: Name) -> SettableSlot | None:
    return next((slot for slot in SETTABLE_SLOTS if slot == name.text), None)


def _never_right(slot: SettableSlot, change: Change) -> Objection | None:
    """Why ``change`` is wrong for ``slot`` whatever scheme it meets; of signed 8-bit codes here."""
    plain = initial(slot, IntFormat(bits=8, signed=True))
    found = legal(slot, plain, change) if isinstance(change, SetGranularity) else plain
    return found if isinstance(found, Objection) else None


def too_many_rules(span: Span) -> Diagnostic:
    """QR120."""
    return Diagnostic(
        Code.TOO_LARGE,
        f"policy has more than {MAX_RULES} rules, the included ones counted",
        Label(span, "goes beyond it"),
        help="select several layers by one rule",
    )
