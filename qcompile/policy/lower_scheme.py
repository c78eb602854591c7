"""Schemes: inheritance and modifiers worked into one value for each slot."""

from collections.abc import Mapping

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.diagnostics.frozen import frozen
from qcompile.diagnostics.source import Span
from qcompile.policy.attributes import given_twice
from qcompile.policy.change import MAX_BITS, MIN_BITS, apply, initial, objection
from qcompile.policy.expression import Checker
from qcompile.policy.modifiers import bits_out_of_range, changes, objected, unknown_modifier
from qcompile.policy.scheme import FloatSlot, IntFormat, QuantSlot, Scheme
from qcompile.policy.scope import (
    Scope,
    forms_a_cycle,
    in_dependency_order,
    unknown_name,
)
from qcompile.policy.unavailable import not_available
from qcompile.syntax.nodes import Name, SchemeDef, SlotFloat, SlotPatch, SlotSet

LATER_SLOTS = ("bias", "kv")
LATER_FORMATS = (
    *(f"power{bits}" for bits in range(2, 9)),
    *(f"log2_{bits}" for bits in range(2, 9)),
    *(f"codebook{bits}" for bits in range(2, 9)),
    *("logsqrt2_4", "nf4", "fp8_e4m3", "fp8_e5m2", "fp6_e2m3", "fp6_e3m2"),
    *("mxfp8", "mxfp6", "mxfp4", "nvfp4"),
)
FORMATS = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in range(MIN_BITS, MAX_BITS + 1))


@frozen
class Slots:
    """What a scheme has said so far of ``weight``, ``act`` and ``act2``, and where."""

    values: Mapping[str, QuantSlot | FloatSlot]
    spans: Mapping[str, Span]

    def of(self, slot: str) -> QuantSlot | FloatSlot | None:
        """``act2`` follows ``act`` until something is said of it."""
        return self.values.get(slot) or (self.values.get("act") if slot == "act2" else None)


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
    values = [slots.of(slot) or FloatSlot() for slot in ("weight", "act", "act2")]
    follows = "act2" not in slots.values
    return Scheme(name=name, weight=values[0], act=values[1], act2=values[2], act2_follows=follows)


def _lower(node: SchemeDef, known: Mapping[str, Slots | None], checker: Checker) -> Slots | None:
    inherited = _inherited(node, known, checker)
    if inherited is None:
        return None
    errors = len(checker.diagnostics)
    values, spans = dict(inherited.values), dict(inherited.spans)
    here: dict[str, Span] = {}
    for line in node.slots:
        slot = line.slot.text
        if slot in LATER_SLOTS:
            checker.report(
                not_available(f"the slot `{slot}`", line.slot.span, "leave the line out")
            )
            continue
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
        spec = apply(spec, change)
        if not was_wrong and objection(slot, spec) is not None:
            blame = modifier.span
    found = objection(slot, spec)
    if found is not None:
        checker.report(objected(found, blame))
        return None
    return spec


def _format(line: SlotSet, checker: Checker) -> IntFormat | None:
    name, *others = line.formats
    if others:
        span = name.span.to(others[-1].span)
        checker.report(not_available("a sum of formats", span, "write one format"))
        return None
    signed = not name.text.startswith("u")
    digits = name.text.removeprefix("u").removeprefix("int")
    if name.text in FORMATS:
        return IntFormat(bits=int(digits), signed=signed)
    if name.text == f"{'' if signed else 'u'}int{digits}" and digits.isdecimal():
        checker.report(bits_out_of_range(name.span))
    elif name.text in LATER_FORMATS:
        checker.report(not_available(f"the format `{name.text}`", name.span, "use `int2`..`int8`"))
    else:
        checker.report(unknown_modifier(name, FORMATS, "format"))
    return None


def patch_of_float(slot: Name) -> Diagnostic:
    """QR306."""
    return Diagnostic(
        Code.SET_ON_FLOAT,
        f"`{slot.text} with` changes a slot that is float",
        Label(slot.span, "nothing to change here"),
        help=f"write the whole slot, for example `{slot.text} int8`",
    )
