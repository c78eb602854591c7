"""The type of ``a op b`` and ``op a``, or what is wrong with it."""

from typing import TypeGuard, cast

from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.source import Span
from qcompile.policy.claim import (
    AllClaims,
    AnyClaim,
    Claim,
    CompareFigures,
    Figure,
    FigureArithmetic,
    NotClaim,
)
from qcompile.policy.dimension import Dimension
from qcompile.policy.selection import calculate
from qcompile.policy.selector import (
    AllOf,
    AnyOf,
    Comparator,
    Compare,
    Constant,
    FactArithmetic,
    FactTerm,
    Not,
    Operator,
    Selector,
    Stretch,
)
from qcompile.policy.type_errors import division_by_zero, mixed_units, wrong_type, wrong_use
from qcompile.policy.typed import (
    CLAIMS,
    FACT_TERMS,
    FIGURES,
    TERMS,
    Interval,
    Typed,
    describe,
    is_selector,
)


def combine(op: str, left: Typed, right: Typed, span: Span) -> Typed | Diagnostic:
    match op:
        case "and" | "or" | "except":
            return _boolean(op, left, right, span)
        case "==" | "!=" | "<" | "<=" | ">" | ">=":
            return _comparison(op, left, right, span)
        case "+" | "-" | "*" | "/" | "%":
            return _arithmetic(op, left, right, span)
        case "..":
            return _range(left, right, span)
        case _:
            fix = "write `all(conv is scheme(x))`"
            return wrong_use("`is` stands only once, and directly inside `all(...)`", span, fix)


def negate(op: str, typed: Typed, span: Span) -> Typed | Diagnostic:
    if op == "not":
        if isinstance(typed, CLAIMS):
            return NotClaim(cast(Claim, typed), span)
        return Not(cast(Selector, typed), span)
    zero = Constant(0, typed.dimension if is_term(typed) else Dimension.NUMBER, span)
    return _arithmetic("-", zero, typed, span)


def is_term(typed: Typed) -> TypeGuard[FactTerm | Figure]:
    return isinstance(typed, TERMS)


def _boolean(op: str, left: Typed, right: Typed, span: Span) -> Typed | Diagnostic:
    """Chains of one operator become one flat node."""
    if isinstance(left, CLAIMS) is not isinstance(right, CLAIMS):
        wanted = "a statement that holds or not" if isinstance(left, CLAIMS) else "a selector"
        return wrong_type(wanted, describe(right), right.span)
    if isinstance(left, CLAIMS):
        return _claims(op, cast(Claim, left), cast(Claim, right), span)
    first, second = cast(Selector, left), cast(Selector, right)
    if op == "or":
        items = first.items if isinstance(first, AnyOf) else (first,)
        return AnyOf((*items, second), span)
    items = first.items if isinstance(first, AllOf) else (first,)
    return AllOf((*items, second if op == "and" else Not(second, second.span)), span)


def _claims(op: str, left: Claim, right: Claim, span: Span) -> Typed | Diagnostic:
    match op:
        case "and":
            items = left.items if isinstance(left, AllClaims) else (left,)
            return AllClaims((*items, right), span)
        case "or":
            items = left.items if isinstance(left, AnyClaim) else (left,)
            return AnyClaim((*items, right), span)
        case _:
            return wrong_use(
                "`except` takes sites out of a selector", span, "write `and not` between statements"
            )


def _comparison(op: Comparator, left: Typed, right: Typed, span: Span) -> Typed | Diagnostic:
    problem = _not_terms(left, right)
    if problem is not None:
        return problem
    assert is_term(left)
    assert is_term(right)
    if left.dimension is not right.dimension:
        return mixed_units("compare", (left.dimension, left.span), (right.dimension, right.span))
    if left.dimension is Dimension.LIST and op not in ("==", "!="):
        return wrong_use("lists have no order", span, "compare with `==` or `!=`")
    if isinstance(left, FACT_TERMS) or isinstance(right, FACT_TERMS):
        return Compare(op, cast(FactTerm, left), cast(FactTerm, right), span)
    if isinstance(left, FIGURES) or isinstance(right, FIGURES):
        return CompareFigures(op, left, right, span)
    fix = "compare with something of a site, such as `params`, or of the plan, such as `size`"
    return wrong_use("both sides are constants", span, fix)


def _arithmetic(op: Operator, left: Typed, right: Typed, span: Span) -> Typed | Diagnostic:
    problem = _not_terms(left, right)
    if problem is not None:
        return problem
    assert is_term(left)
    assert is_term(right)
    dimension = _dimension(op, left.dimension, right.dimension)
    if dimension is None:
        verb = {"+": "add", "-": "subtract", "*": "multiply"}.get(op, "divide")
        return mixed_units(verb, (left.dimension, left.span), (right.dimension, right.span))
    if op in "/%" and isinstance(right, Constant) and right.value == 0:
        return division_by_zero(right.span)
    if isinstance(left, Constant) and isinstance(right, Constant):
        value = calculate(op, left.value, right.value)
        return Constant(0 if value is None else value, dimension, span)
    if isinstance(left, FIGURES) or isinstance(right, FIGURES):
        return FigureArithmetic(op, cast(Figure, left), cast(Figure, right), dimension, span)
    return FactArithmetic(op, cast(FactTerm, left), cast(FactTerm, right), dimension, span)


def _dimension(op: Operator, left: Dimension, right: Dimension) -> Dimension | None:
    if Dimension.LIST in (left, right):
        return None
    match op:
        case "+" | "-":
            return left if left is right else None
        case "*":
            if left is Dimension.NUMBER:
                return right
            return left if right is Dimension.NUMBER else None
        case "/":
            if right is Dimension.NUMBER:
                return left
            return Dimension.NUMBER if left is right else None
        case "%":
            return left if left is right is Dimension.NUMBER else None


def _not_terms(left: Typed, right: Typed) -> Diagnostic | None:
    for one in (left, right):
        if not is_term(one):
            return wrong_type("a number", describe(one), one.span)
    mixed = (isinstance(left, FACT_TERMS) and isinstance(right, FIGURES)) or (
        isinstance(left, FIGURES) and isinstance(right, FACT_TERMS)
    )
    if mixed:
        fix = "use one of them at a time"
        return wrong_use("a number of each site meets a number of the plan", right.span, fix)
    return None


def _range(left: Typed, right: Typed, span: Span) -> Typed | Diagnostic:
    if is_selector(left) and is_selector(right):
        return Stretch(cast(Selector, left), cast(Selector, right), span)
    for one in (left, right):
        if not isinstance(one, Constant) or not isinstance(one.value, int):
            return wrong_type("a whole number", describe(one), one.span)
    first, last = cast(int, cast(Constant, left).value), cast(int, cast(Constant, right).value)
    if not 0 <= first <= last:
        return wrong_use("the range is empty or begins below 0", span, "write it as in `0..3`")
    return Interval(first, last, span)
