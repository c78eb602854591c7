"""Words with arguments, read against a table: ``both(0.5)``, ``prediction(T=4, weight=10)``."""

from collections.abc import Iterator, Sequence

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Applicability, Diagnostic, Fix, Label
from qcompile.diagnostics.frozen import frozen
from qcompile.diagnostics.source import Span
from qcompile.diagnostics.suggest import nearest
from qcompile.policy.attributes import listed, unknown_value, word_of
from qcompile.policy.dimension import Dimension
from qcompile.policy.expression import Checker
from qcompile.policy.type_errors import wrong_type
from qcompile.syntax.nodes import Arg, Binary, Call, Expr, Name, Quantity


@frozen
class Argument:
    """A number in ``low..high``; a share may be written as ``20%`` or as ``0.2``."""

    name: str
    low: float
    high: float
    default: float | None = None
    required: bool = False


@frozen
class Form:
    word: str
    arguments: tuple[Argument, ...] = ()
    """In the order in which they may stand without their names."""


@frozen
class Filled:
    """A form as it was written: each argument of its word has a value, or ``None``."""

    word: str
    values: tuple[tuple[str, float | None], ...]
    span: Span

    def __getitem__(self, name: str) -> float | None:
        return dict(self.values).get(name)


def read_sum(
    expr: Expr, setting: str, forms: Sequence[Form], checker: Checker
) -> tuple[Filled, ...]:
    """Terms joined by ``+``, in the order of the text; none where one of them is wrong."""
    terms = [read_form(term, setting, forms, checker) for term in _terms(expr)]
    found = tuple(term for term in terms if term is not None)
    return found if len(found) == len(terms) else ()


def _terms(expr: Expr) -> Iterator[Expr]:
    spine: list[Expr] = []
    while isinstance(expr, Binary) and expr.op == "+":
        spine.append(expr.right)
        expr = expr.left
    yield expr
    yield from reversed(spine)


def read_form(expr: Expr, setting: str, forms: Sequence[Form], checker: Checker) -> Filled | None:
    word = expr.func if isinstance(expr, Call) else word_of(expr)
    words = [form.word for form in forms]
    if word is None:
        checker.report(wrong_type(f"one of {listed(words)}", "something else", expr.span))
        return None
    form = next((form for form in forms if form.word == word.text), None)
    if form is None:
        checker.report(unknown_value(setting, word, words))
        return None
    values = _fill(form, expr.args if isinstance(expr, Call) else (), expr.span, checker)
    return None if values is None else Filled(form.word, values, expr.span)


def _fill(
    form: Form, args: tuple[Arg, ...], span: Span, checker: Checker
) -> tuple[tuple[str, float | None], ...] | None:
    """Arguments by place, then by name, as in a call of a function."""
    given: dict[str, float | None] = {}
    for place, arg in enumerate(args):
        argument = _named(form, place, arg)
        if argument is None:
            checker.report(unknown_argument(form, arg))
            return None
        if argument.name in given:
            checker.report(argument_twice(form, argument, arg.span))
            return None
        given[argument.name] = number(arg.value, argument, checker)
        if given[argument.name] is None:
            return None
    missing = [one for one in form.arguments if one.required and one.name not in given]
    if missing:
        checker.report(needs_argument(form, missing[0], span))
        return None
    return tuple((one.name, given.get(one.name, one.default)) for one in form.arguments)


def _named(form: Form, place: int, arg: Arg) -> Argument | None:
    if arg.name is None:
        return form.arguments[place] if place < len(form.arguments) else None
    return next((one for one in form.arguments if one.name == arg.name.text), None)


def number(expr: Expr, argument: Argument, checker: Checker) -> float | None:
    percent = isinstance(expr, Quantity) and expr.unit == "%"
    constant = checker.constant(expr, Dimension.PERCENT if percent else Dimension.NUMBER)
    if constant is None or isinstance(constant.value, tuple):
        return None
    value = constant.value / 100 if percent else float(constant.value)
    if argument.low <= value <= argument.high:
        return value
    checker.report(number_out_of_range(argument, value, expr.span))
    return None


def number_out_of_range(argument: Argument, value: float, span: Span) -> Diagnostic:
    """QR410."""
    bounds = f"between {argument.low:g} and {argument.high:g}"
    return Diagnostic(
        Code.VALUE_RANGE,
        f"`{argument.name}` must be {bounds}, found {value:g}",
        Label(span),
        help=f"write a number {bounds}",
    )


def unknown_argument(form: Form, arg: Arg) -> Diagnostic:
    """QR409."""
    names = [one.name for one in form.arguments]
    takes = f"`{form.word}` takes {listed(names) if names else 'no argument'}"
    match arg.name:
        case Name(text, span):
            guesses = nearest(text, names)
            message = f"`{form.word}` has no argument `{text}`"
        case None:
            guesses, span = [], arg.span
            message = f"`{form.word}` takes fewer arguments"
    return Diagnostic(
        Code.UNKNOWN_SETTING,
        message,
        Label(span),
        help=f"did you mean `{guesses[0]}`?" if guesses else takes,
        fixes=tuple(Fix(span, guess, Applicability.UNSAFE) for guess in guesses),
    )


def argument_twice(form: Form, argument: Argument, span: Span) -> Diagnostic:
    """QR210."""
    return Diagnostic(
        Code.DUPLICATE_STATEMENT,
        f"`{argument.name}` of `{form.word}` is given twice",
        Label(span, "second time"),
        help="keep one of them",
    )


def needs_argument(form: Form, argument: Argument, span: Span) -> Diagnostic:
    """QR405."""
    return Diagnostic(
        Code.ILLEGAL_COMBINATION,
        f"`{form.word}` needs `{argument.name}`",
        Label(span),
        help=f"write `{form.word}({argument.low:g})`, or up to {argument.high:g}",
    )
