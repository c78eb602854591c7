"""Diagnostics of expressions that do not fit together."""

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Fix, Label
from qcompile.diagnostics.source import Span
from qcompile.policy.dimension import UNITS, Dimension
from qcompile.policy.foreign_pattern import as_regex
from qcompile.policy.glob import InvalidGlob
from qcompile.policy.regex import UnsafeRegex
from qcompile.policy.typed import Text
from qcompile.syntax.nodes import Quantity
from qcompile.syntax.nodes import Regex as RegexNode

EXAMPLES = {
    Dimension.NUMBER: "4.5",
    Dimension.BYTES: "4.5MB",
    Dimension.PERCENT: "99.9%",
    Dimension.DECIBEL: "20dB",
    Dimension.TIME: "30min",
    Dimension.LIST: "[1, 1]",
}


def wrong_type(wanted: str, found: str, span: Span, help: str | None = None) -> Diagnostic:
    """QR401."""
    return Diagnostic(
        Code.WRONG_TYPE,
        f"expected {wanted}, found {found}",
        Label(span, f"this is {found}"),
        help=help or f"write {wanted} here",
    )


def wrong_use(message: str, span: Span, help: str) -> Diagnostic:
    """QR401, where what is wrong is not one operand alone."""
    return Diagnostic(Code.WRONG_TYPE, message, Label(span), help=help)


def known_too_late(span: Span) -> Diagnostic:
    """QR401."""
    return Diagnostic(
        Code.WRONG_TYPE,
        f"`{span.text}` is known only when the whole policy has decided",
        Label(span, "a result of the policy"),
        help="rules select by path, kind and fact; test results with `expect` or `prefer`",
    )


def mixed_units(
    verb: str, left: tuple[Dimension, Span], right: tuple[Dimension, Span]
) -> Diagnostic:
    """QR402."""
    wanted = left[0]
    return Diagnostic(
        Code.MIXED_UNITS,
        f"cannot {verb} {left[0].value} and {right[0].value}",
        Label(right[1], right[0].value),
        (Label(left[1], left[0].value),),
        help=f"write {wanted.value} on both sides, such as `{EXAMPLES[wanted]}`",
    )


def unknown_unit(quantity: Quantity) -> Diagnostic:
    """QR406. Case decides, so that a safe fix exists only if one unit differs in case alone."""
    close = [one.name for one in UNITS if one.name.lower() == quantity.unit.lower()]
    names = ", ".join(f"`{one.name}`" for one in UNITS)
    start = quantity.span.end - len(quantity.unit)
    fixes = tuple(Fix(quantity.span.source.span(start, quantity.span.end), name) for name in close)
    return Diagnostic(
        Code.UNKNOWN_UNIT,
        f"unknown unit `{quantity.unit}`",
        Label(quantity.span),
        help=f"did you mean `{close[0]}`?" if close else f"the units are {names}",
        fixes=fixes if len(fixes) == 1 else (),
    )


def unsafe_regex(node: RegexNode, error: UnsafeRegex) -> Diagnostic:
    """QR309. The pattern starts after ``re"``."""
    first = node.span.start + len('re"')
    return Diagnostic(
        Code.UNSAFE_REGEX,
        f"regular expression is outside the safe subset: {error.reason}",
        Label(node.span.source.span(first + error.start, first + max(error.end, error.start + 1))),
        help="use characters, `.`, classes, `|`, groups, and `*`, `+`, `?` without nesting",
    )


def invalid_pattern(text: Text, error: InvalidGlob) -> Diagnostic:
    """QR311."""
    regex = as_regex(text.value)
    return Diagnostic(
        Code.INVALID_PATTERN,
        f"invalid pattern: {error}",
        Label(text.span),
        help="use `*`, `?`, `[0-9]` and `{a,b}` within a segment, and `**` as a segment"
        if regex is None
        else f'write `re"{regex.text}"` if it is a regular expression',
    )


def too_deep(span: Span) -> Diagnostic:
    """QR120."""
    return Diagnostic(
        Code.TOO_LARGE,
        "expression is too deep, the definitions it uses included",
        Label(span),
        help="split it: a `select` names a part of it",
    )


def too_large_a_number(span: Span) -> Diagnostic:
    """QR410."""
    return Diagnostic(
        Code.VALUE_RANGE,
        "number is beyond 1e18",
        Label(span),
        help="write a smaller number",
    )


def division_by_zero(span: Span) -> Diagnostic:
    """QR410."""
    return Diagnostic(
        Code.VALUE_RANGE, "division by zero", Label(span, "is 0"), help="divide by another number"
    )
