"""Schemes: inheritance and modifiers worked into one value for each slot."""

from collections.abc import Mapping
from types import MappingProxyType

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.diagnostics.frozen import frozen
from qcompile.diagnostics.source import Span
from qcompile.policy.attributes import given_twice
from qcompile.policy.change import apply
from qcompile.policy.expression import Checker
from qcompile.policy.modifiers import (
    bits_out_of_range,
    changes,
    illegal,
    objected,
    unknown_modifier,
)
from qcompile.policy.number_format import (
    FAMILIES,
    FORMAT_NAMES,
    MAX_TERMS,
    NumberFormat,
    SingleFormat,
    SumFormat,
    named,
)
from qcompile.policy.scheme import ALL_SLOTS, FloatSlot, QuantSlot, Scheme
from qcompile.policy.scope import (
    Scope,
    forms_a_cycle,
    in_dependency_order,
    unknown_name,
)
from qcompile.policy.slot_rules import Objection, initial, objection
from qcompile.syntax.nodes import Name, SchemeDef, SlotFloat, SlotPatch, SlotSet


@frozen
class Slots:
    """What a scheme has said so far of each slot, and where."""

    values: Mapping[str, QuantSlot | FloatSlot]
    spans: Mapping[str, Span]

    def of(self, slot: str) -> QuantSlot | FloatSlot | None:
        """``act2`` follows ``act``, and ``kv`` follows ``act2``, until something is said of it."""
        found = self.values.get(slot)
        return self.of(FOLLOWS[slot]) if found is None and slot in FOLLOWS else found


FOLLOWS: Mapping[str, str] = MappingProxyType({"act2": "act", "kv": "act2"})
NO_SLOTS = Slots({}, {})


@frozen
class Schemes:
    by_name: Mapping[str, Scheme]
    spans: Mapping[tuple[str, str], Span]


def lower_schemes(checker: Checker) -> Schemes:
    """A scheme with a problem is left out; the problem goes to ``checker``."""
    scope = checker.scope
    found = [(name, scope.definitions[name].node) for name in scope.keys("scheme")]
    definitions = {name: node for name, node in found if isinstance(node, SchemeDef)}
    graph = {name: _bases(node, scope) for name, node in definitions.items()}
    order, cycles = in_dependency_order(graph)
    for cycle in cycles:
        node = definitions[cycle[0]]
        span = node.base.span if node.base is not None else node.name.span
        checker.report(forms_a_cycle("`extends`", cycle, span))
    slots: dict[str, Slots | None] = {}
    for name in order:
        slots[name] = _lower(definitions[name], slots, checker)
    done = {name: one for name, one in slots.items() if one is not None}
    spans = {(name, slot): span for name, one in done.items() for slot, span in one.spans.items()}
    return Schemes({name: _scheme(name, one) for name, one in done.items()}, spans)


def _bases(node: SchemeDef, scope: Scope) -> tuple[str, ...]:
    base = scope.look_up(node.base, "scheme") if node.base else None
    return (base.key,) if base is not None else ()


def _scheme(name: str, slots: Slots) -> Scheme:
    weight, act, act2, bias, kv = (slots.of(slot) or FloatSlot() for slot in ALL_SLOTS)
    said = slots.values
    return Scheme(name, weight, act, act2, "act2" not in said, bias, kv, "kv" not in said)


def _lower(node: SchemeDef, known: Mapping[str, Slots | None], checker: Checker) -> Slots | None:
    inherited = _inherited(node, known, checker)
    if inherited is None:
        return None
    errors = len(checker.diagnostics)
    values, spans = dict(inherited.values), dict(inherited.spans)
    here: dict[str, Span] = {}
    for line in node.slots:
        slot = line.slot.text
        if slot in here:
            checker.report(given_twice(slot, line.slot.span, here[slot]))
            continue
        here[slot] = line.slot.span
        value = _line(line, Slots(values, spans), checker)
        if value is not None:
            values[slot], spans[slot] = value, line.span
    return Slots(values, spans) if len(checker.diagnostics) == errors else None


def _inherited(
    node: SchemeDef, known: Mapping[str, Slots | None], checker: Checker
) -> Slots | None:
    base = node.base
    if base is None:
        return NO_SLOTS
    definition = checker.scope.look_up(base, "scheme")
    if definition is not None:
        return known.get(definition.key)
    if not checker.scope.is_broken(base):
        own = node.name.text
        names = [name for name in checker.scope.names(base.span, "scheme") if name != own]
        checker.report(unknown_name(base, "scheme", checker.scope, names))
    return None


def _line(
    line: SlotSet | SlotPatch | SlotFloat, before: Slots, checker: Checker
) -> QuantSlot | FloatSlot | None:
    slot = line.slot.text
    match line:
        case SlotFloat():
            return FloatSlot()
        case SlotSet():
            number = _format(line, checker)
            start = None if number is None else initial(slot, number)
        case SlotPatch():
            inherited = before.of(slot)
            start = inherited if isinstance(inherited, QuantSlot) else None
            if start is None:
                checker.report(patch_of_float(line.slot))
    return _modified(slot, start, line, checker)


def _modified(
    slot: str, start: QuantSlot | None, line: SlotSet | SlotPatch, checker: Checker
) -> QuantSlot | None:
    """``start`` with the modifiers of the line; the one that first made it wrong is blamed."""
    modified = changes(line.modifiers, checker)
    if start is None:
        return None
    spec = start
    blame = line.span
    for change, modifier in modified:
        was_wrong = objection(slot, spec) is not None
        changed = apply(spec, change)
        if isinstance(changed, Objection):
            checker.report(objected(changed, modifier.span))
            return None
        spec = changed
        if not was_wrong and objection(slot, spec) is not None:
            blame = modifier.span
    found = objection(slot, spec)
    if found is not None:
        checker.report(objected(found, blame))
        return None
    return spec


def _format(line: SlotSet, checker: Checker) -> NumberFormat | None:
    found = [_single(name, checker) for name in line.formats]
    terms = tuple(one for one in found if one is not None)
    if len(terms) < len(found):
        return None
    if len(terms) > MAX_TERMS:
        span = line.formats[0].span.to(line.formats[-1].span)
        checker.report(illegal(f"a sum has at most {MAX_TERMS} terms", span, "leave some out"))
        return None
    return terms[0] if len(terms) == 1 else SumFormat(terms)


def _single(name: Name, checker: Checker) -> SingleFormat | None:
    found = named(name.text)
    if found is not None:
        return found
    family = name.text.rstrip("0123456789")
    if family in FAMILIES and family != name.text:
        checker.report(bits_out_of_range(name.span))
    else:
        checker.report(unknown_modifier(name, FORMAT_NAMES, "format"))
    return None


def patch_of_float(slot: Name) -> Diagnostic:
    """QR306."""
    return Diagnostic(
        Code.SET_ON_FLOAT,
        f"`{slot.text} with` changes a slot that is float",
        Label(slot.span, "nothing to change here"),
        help=f"write the whole slot, for example `{slot.text} int8`",
    )
