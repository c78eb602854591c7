"""The functions of the language: ``name(...)`` in an expression."""

from collections.abc import Mapping
from typing import Literal, get_args

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.policy.claim import RUN_FIGURES, Count, EveryIs, Exists, SiteBits, SlotBits
from qcompile.policy.dimension import Dimension
from qcompile.policy.expression import Builder, Checker
from qcompile.policy.scope import unknown_name
from qcompile.policy.selector import (
    AllOf,
    InBlocks,
    Inside,
    Nth,
    OfOp,
    OfParameter,
    Related,
    Relation,
    WithScheme,
)
from qcompile.policy.type_errors import wrong_type, wrong_use
from qcompile.policy.typed import Interval, SlotWord, Typed, describe
from qcompile.syntax.nodes import Binary, Call, Expr, Ref


def _arguments(checker: Checker, call: Call, count: int) -> tuple[Expr, ...] | None:
    """Exactly ``count`` arguments without names."""
    for arg in call.args:
        if arg.name is not None:
            checker.report(
                wrong_use(
                    f"`{call.func.text}` has no argument called `{arg.name.text}`",
                    arg.name.span,
                    "write the value alone",
                )
            )
            return None
    if len(call.args) != count:
        checker.report(wrong_argument_count(call, count))
        return None
    return tuple(arg.value for arg in call.args)


def wrong_argument_count(call: Call, count: int) -> Diagnostic:
    """QR401."""
    plural = "argument" if count == 1 else "arguments"
    return Diagnostic(
        Code.WRONG_TYPE,
        f"`{call.func.text}` takes {count} {plural}, found {len(call.args)}",
        Label(call.span),
        help=f"see `{call.func.text}` in the language reference",
    )


def _first(checker: Checker, call: Call) -> Typed | None:
    return _at(checker, call, 0)


def _last(checker: Checker, call: Call) -> Typed | None:
    return _at(checker, call, -1)


def _at(checker: Checker, call: Call, number: int) -> Typed | None:
    args = _arguments(checker, call, 1)
    selector = checker.selector(args[0]) if args else None
    return None if selector is None else Nth(selector, number, call.span)


def _nth(checker: Checker, call: Call) -> Typed | None:
    args = _arguments(checker, call, 2)
    if args is None:
        return None
    selector = checker.selector(args[0])
    number = checker.constant(args[1], Dimension.NUMBER)
    if selector is None or number is None:
        return None
    if not isinstance(number.value, int):
        checker.report(wrong_type("a whole number", "a fraction", number.span))
        return None
    return Nth(selector, number.value, call.span)


def _inside(checker: Checker, call: Call) -> Typed | None:
    return _below(checker, call, directly=False)


def _children(checker: Checker, call: Call) -> Typed | None:
    return _below(checker, call, directly=True)


def _below(checker: Checker, call: Call, directly: bool) -> Typed | None:
    args = _arguments(checker, call, 1)
    matcher = checker.matcher(args[0]) if args else None
    return None if matcher is None else Inside(matcher, directly, call.span)


def _of_op(checker: Checker, call: Call) -> Typed | None:
    args = _arguments(checker, call, 1)
    text = checker.text(args[0]) if args else None
    return None if text is None else OfOp(text.value, call.span)


def _param(checker: Checker, call: Call) -> Typed | None:
    args = _arguments(checker, call, 1)
    matcher = checker.matcher(args[0]) if args else None
    return None if matcher is None else OfParameter(matcher, call.span)


def _related(relation: Relation) -> Builder:
    def build(checker: Checker, call: Call) -> Typed | None:
        args = _arguments(checker, call, 1)
        selector = checker.selector(args[0]) if args else None
        return None if selector is None else Related(relation, selector, call.span)

    return build


def _between(checker: Checker, call: Call) -> Typed | None:
    """On a path from the first to the second, both left out."""
    args = _arguments(checker, call, 2)
    if args is None:
        return None
    first, last = checker.selector(args[0]), checker.selector(args[1])
    if first is None or last is None:
        return None
    items = (Related("follows", first, first.span), Related("precedes", last, last.span))
    return AllOf(items, call.span)


def _scheme(checker: Checker, call: Call) -> Typed | None:
    args = _arguments(checker, call, 1)
    if args is None:
        return None
    ref = args[0]
    if not isinstance(ref, Ref):
        checker.report(wrong_type("the name of a scheme", "another expression", ref.span))
        return None
    definition = checker.scope.look_up(ref, "scheme")
    if definition is None:
        if not checker.scope.is_broken(ref):
            known = checker.scope.names(ref.span, "scheme")
            checker.report(unknown_name(ref, "scheme", checker.scope, known))
        return None
    return WithScheme(definition.key, call.span)


def _block(checker: Checker, call: Call) -> Typed | None:
    args = _arguments(checker, call, 1)
    typed = checker.check(args[0]) if args else None
    match typed:
        case None:
            return None
        case Interval(first, last):
            return InBlocks(first, last, call.span)
        case _:
            checker.report(wrong_type("a range such as `0..3`", describe(typed), typed.span))
            return None


def _count(checker: Checker, call: Call) -> Typed | None:
    args = _arguments(checker, call, 1)
    selector = checker.selector(args[0]) if args else None
    return None if selector is None else Count(selector, Dimension.NUMBER, call.span)


def _exists(checker: Checker, call: Call) -> Typed | None:
    args = _arguments(checker, call, 1)
    selector = checker.selector(args[0]) if args else None
    return None if selector is None else Exists(selector, True, call.span)


def _none(checker: Checker, call: Call) -> Typed | None:
    args = _arguments(checker, call, 1)
    selector = checker.selector(args[0]) if args else None
    return None if selector is None else Exists(selector, False, call.span)


def _all(checker: Checker, call: Call) -> Typed | None:
    args = _arguments(checker, call, 1)
    if args is None:
        return None
    parts = _around_is(args[0])
    if parts is None:
        fix = "write `all(conv is scheme(x))`"
        checker.report(wrong_use("`all` needs `is` between two selectors", args[0].span, fix))
        return None
    selector, target = checker.selector(parts[0]), checker.selector(parts[1])
    if selector is None or target is None:
        return None
    return EveryIs(selector, target, call.span)


def _around_is(expr: Expr) -> tuple[Expr, Expr] | None:
    """Both sides of the last ``is``, which in ``all`` binds looser than ``and`` and ``or``.

    The grammar reads ``a or b is c`` as ``a or (b is c)``, which would mean nothing here.
    """
    match expr:
        case Binary("is", left, right):
            return left, right
        case Binary("and" | "or" | "except" as op, left, right):
            inner = _around_is(right)
            if inner is None:
                return None
            return Binary(op, left, inner[0], left.span.to(inner[0].span)), inner[1]
        case _:
            return None


def _bits(checker: Checker, call: Call) -> Typed | None:
    args = _arguments(checker, call, 1)
    selector = checker.selector(args[0]) if args else None
    return None if selector is None else SiteBits(selector, Dimension.NUMBER, call.span)


def _slot_bits(which: Literal["min_bits", "max_bits", "avg_bits"]) -> Builder:
    def build(checker: Checker, call: Call) -> Typed | None:
        args = _arguments(checker, call, 1)
        typed = checker.check(args[0]) if args else None
        match typed:
            case None:
                return None
            case SlotWord("weight" | "act" as slot):
                return SlotBits(which, slot, Dimension.NUMBER, call.span)
            case _:
                checker.report(wrong_type("`weight` or `act`", describe(typed), typed.span))
                return None

    return build


def _figure(checker: Checker, call: Call) -> Typed | None:
    """``sqnr(output)`` is ``sqnr``: a figure of a run is one of the model's output."""
    args = _arguments(checker, call, 1)
    if args is None:
        return None
    if isinstance(args[0], Ref) and args[0].text == "output":
        return checker.check(call.func)
    checker.report(wrong_type("`output`", "another expression", args[0].span))
    return None


RELATIONS: tuple[Relation, ...] = get_args(Relation)

FUNCTIONS: Mapping[str, Builder] = {
    "first": _first,
    "last": _last,
    "nth": _nth,
    "inside": _inside,
    "children": _children,
    "type": _of_op,
    "op": _of_op,
    "scheme": _scheme,
    "param": _param,
    "block": _block,
    **{relation: _related(relation) for relation in RELATIONS},
    "between": _between,
    "count": _count,
    "none": _none,
    "all": _all,
    "exists": _exists,
    "bits": _bits,
    "min_bits": _slot_bits("min_bits"),
    "max_bits": _slot_bits("max_bits"),
    "avg_bits": _slot_bits("avg_bits"),
    **dict.fromkeys((name for name, _ in RUN_FIGURES), _figure),
}
