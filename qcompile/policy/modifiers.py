"""The modifiers of a slot line, and the values that ``set`` lines take, as changes."""

from collections.abc import Sequence
from types import MappingProxyType

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Applicability, Diagnostic, Fix, Label
from qcompile.diagnostics.source import Span
from qcompile.diagnostics.suggest import nearest
from qcompile.policy.attributes import integer
from qcompile.policy.change import (
    Change,
    SetBits,
    SetDynamic,
    SetExponent,
    SetGranularity,
    SetObserver,
    SetSymmetric,
)
from qcompile.policy.dimension import Dimension
from qcompile.policy.expression import Checker
from qcompile.policy.forms import Argument, number
from qcompile.policy.number_format import MAX_BITS, MIN_BITS
from qcompile.policy.scheme import (
    Clip,
    Lsq,
    MinMax,
    Mse,
    Observer,
    Percentile,
    PerChannel,
    PerGroup,
    PerTensor,
    PerToken,
    SignedMse,
)
from qcompile.policy.slot_rules import Objection
from qcompile.policy.type_errors import wrong_type
from qcompile.policy.typed import Flag
from qcompile.syntax.nodes import Arg, Call, Expr, Modifier, Name, Ref

FLAGS: tuple[tuple[str, Change], ...] = (
    ("symmetric", SetSymmetric(True)),
    ("asymmetric", SetSymmetric(False)),
    ("with_zero_point", SetSymmetric(False)),
    ("per_tensor", SetGranularity(PerTensor())),
    ("per_channel", SetGranularity(PerChannel())),
    ("per_token", SetGranularity(PerToken())),
    ("dynamic", SetDynamic(True)),
)
MODIFIERS = (*(name for name, _ in FLAGS), "per_group", "observer", "bits", "exponent")
OBSERVERS = ("minmax", "clip", "mse", "percentile", "lsq", "signed_mse")
ONE_NUMBER = MappingProxyType(
    {
        "clip": "clip(0.9)",
        "percentile": "percentile(99.9)",
        "mse": "mse(p=2.4)",
        "signed_mse": "signed_mse(p=2.4)",
    }
)
"""Observers with an argument, and an example of each."""
SHARE = Argument("clip", 0.01, 1)
SETTABLE = ("bits", "symmetric", "observer", "group_size", "axis", "granularity", "dynamic")
MAX_AXIS = 8
MAX_GROUP = 1 << 20


def changes(modifiers: Sequence[Modifier], checker: Checker) -> list[tuple[Change, Modifier]]:
    """In the order in which they apply: what is said of the observer comes last.

    ``dynamic`` brings its own observer, which an explicit one on the same line replaces.
    """
    found: list[tuple[Change, Modifier]] = []
    for modifier in modifiers:
        change = _change(modifier, checker)
        if change is None:
            continue
        earlier = next((m for c, m in found if c.field is change.field), None)
        if earlier is not None:
            checker.report(said_twice(change.field.value, modifier.span, earlier.span))
        else:
            found.append((change, modifier))
    return sorted(found, key=lambda item: isinstance(item[0], SetObserver))


def _change(modifier: Modifier, checker: Checker) -> Change | None:
    name = modifier.name.text
    if name == "bits" and modifier.value is not None:
        return bits(modifier.value, checker)
    if name == "observer" and modifier.value is not None:
        found = observer(modifier.value, checker)
        return None if found is None else SetObserver(found)
    if name == "exponent" and modifier.value is not None:
        return exponent(modifier.value, checker)
    if modifier.value is None:
        return granularity(modifier.name, modifier.args, checker)
    if name in MODIFIERS:
        checker.report(illegal(f"`{name}` takes no value", modifier.span, f"write `{name}`"))
    else:
        checker.report(unknown_modifier(modifier.name, MODIFIERS))
    return None


def granularity(name: Name, args: tuple[Arg, ...] | None, checker: Checker) -> Change | None:
    """A flag, ``per_channel(axis)`` or ``per_group(n)``."""
    if name.text not in MODIFIERS:
        checker.report(unknown_modifier(name, MODIFIERS))
        return None
    if name.text in ("per_group", "per_channel") and args is not None:
        return _with_size(name, args, checker)
    flag = next((change for flag, change in FLAGS if flag == name.text), None)
    if flag is None:
        way_out = {"per_group": "write `per_group(128)`"}.get(name.text, f"write `{name.text}=...`")
        checker.report(illegal(f"`{name.text}` needs a value", name.span, way_out))
        return None
    if args is not None:
        message = f"`{name.text}` takes no argument"
        checker.report(illegal(message, name.span, f"write `{name.text}`"))
        return None
    return flag


def _with_size(name: Name, args: tuple[Arg, ...], checker: Checker) -> Change | None:
    if len(args) != 1 or args[0].name is not None:
        message = f"`{name.text}` takes one number"
        checker.report(illegal(message, name.span, f"write `{name.text}(1)`"))
        return None
    if name.text == "per_group":
        return group_size(args[0].value, checker)
    return axis(args[0].value, checker)


def group_size(expr: Expr, checker: Checker) -> Change | None:
    size = integer(expr, "group_size", 1, MAX_GROUP, checker)
    return None if size is None else SetGranularity(PerGroup(size=size))


def axis(expr: Expr, checker: Checker) -> Change | None:
    found = integer(expr, "axis", -MAX_AXIS, MAX_AXIS, checker)
    return None if found is None else SetGranularity(PerChannel(axis=found))


def bits(expr: Expr, checker: Checker) -> Change | None:
    constant = checker.constant(expr, Dimension.NUMBER)
    if constant is None:
        return None
    value = constant.value
    if not isinstance(value, int) or not MIN_BITS <= value <= MAX_BITS:
        checker.report(bits_out_of_range(expr.span))
        return None
    return SetBits(value)


def exponent(expr: Expr, checker: Checker) -> Change | None:
    constant = checker.constant(expr, Dimension.NUMBER)
    if constant is None or isinstance(constant.value, tuple):
        return None
    if not 0.1 <= constant.value <= 4:
        checker.report(beyond("exponent", constant.value, "in 0.1..4", expr.span))
        return None
    return SetExponent(float(constant.value))


def truth(expr: Expr, checker: Checker) -> bool | None:
    typed = checker.check(expr)
    if typed is None or isinstance(typed, Flag):
        return None if typed is None else typed.value
    checker.report(wrong_type("`true` or `false`", "something else", expr.span))
    return None


def observer(expr: Expr, checker: Checker) -> Observer | None:
    match expr:
        case Ref((name,)):
            return _plain_observer(Name(name, expr.span), checker)
        case Call(Ref(("mse" | "signed_mse" as name,)), (Arg(_, value),)):
            p = _power(value, checker)
            if p is None:
                return None
            return Mse(p=p) if name == "mse" else SignedMse(p=p)
        case Call(Ref(("percentile",)), (Arg(None, value),)):
            return _percentile(value, checker)
        case Call(Ref(("clip",)), (Arg(None, value),)):
            share = number(value, SHARE, checker)
            return None if share is None else Clip(share=share)
        case Call(Ref((name,))) if name in ONE_NUMBER:
            way_out = f"write `{ONE_NUMBER[name]}`"
            checker.report(illegal(f"`{name}` takes one number", expr.span, way_out))
            return None
        case _:
            found = expr.func.text if isinstance(expr, Call) else expr.span.text
            checker.report(unknown_modifier(Name(found, expr.span), OBSERVERS, "observer"))
            return None


def _plain_observer(name: Name, checker: Checker) -> Observer | None:
    match name.text:
        case "minmax":
            return MinMax()
        case "mse":
            return Mse()
        case "lsq":
            return Lsq()
        case "signed_mse":
            return SignedMse()
        case "percentile" | "clip":
            way_out = f"write `{ONE_NUMBER[name.text]}`"
            checker.report(illegal(f"`{name.text}` needs a value", name.span, way_out))
            return None
        case _:
            checker.report(unknown_modifier(name, OBSERVERS, "observer"))
            return None


def _power(expr: Expr, checker: Checker) -> float | None:
    constant = checker.constant(expr, Dimension.NUMBER)
    if constant is None or isinstance(constant.value, tuple):
        return None
    if not 0 < constant.value <= 10:
        checker.report(beyond("p", constant.value, "above 0 and at most 10", expr.span))
        return None
    return constant.value


def _percentile(expr: Expr, checker: Checker) -> Observer | None:
    percent = expr.span.text.endswith("%")
    constant = checker.constant(expr, Dimension.PERCENT if percent else Dimension.NUMBER)
    if constant is None or isinstance(constant.value, tuple):
        return None
    if not 50 < constant.value <= 100:
        checker.report(beyond("percentile", constant.value, "above 50 and at most 100", expr.span))
        return None
    return Percentile(q=constant.value)


def unknown_modifier(name: Name, known: Sequence[str], what: str = "modifier") -> Diagnostic:
    """QR404."""
    guesses = nearest(name.text, known)
    names = ", ".join(f"`{one}`" for one in known)
    return Diagnostic(
        Code.UNKNOWN_MODIFIER,
        f"unknown {what} `{name.text}`",
        Label(name.span),
        help=f"did you mean `{guesses[0]}`?" if guesses else f"write one of {names}",
        fixes=tuple(Fix(name.span, guess, Applicability.UNSAFE) for guess in guesses),
    )


def bits_out_of_range(span: Span) -> Diagnostic:
    """QR403."""
    return Diagnostic(
        Code.BITS_RANGE,
        f"bits must be in {MIN_BITS}..{MAX_BITS}",
        Label(span),
        help=f"write a whole number from {MIN_BITS} to {MAX_BITS}",
    )


def said_twice(what: str, second: Span, first: Span) -> Diagnostic:
    """QR405."""
    return Diagnostic(
        Code.ILLEGAL_COMBINATION,
        f"two modifiers decide `{what}`",
        Label(second, "decides it again"),
        (Label(first, "decides it here"),),
        help="keep one of them",
    )


def illegal(message: str, span: Span, way_out: str) -> Diagnostic:
    """QR405."""
    return Diagnostic(Code.ILLEGAL_COMBINATION, message, Label(span), help=way_out)


def objected(found: Objection, span: Span) -> Diagnostic:
    """QR405."""
    return illegal(found.reason, span, found.way_out)


def beyond(name: str, value: float, bounds: str, span: Span) -> Diagnostic:
    """QR410."""
    return Diagnostic(
        Code.VALUE_RANGE,
        f"`{name}` must be {bounds}, found {value:g}",
        Label(span),
        help=f"write a number {bounds}",
    )
