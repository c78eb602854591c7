"""Settings of a block, read against a table of what may stand there."""

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Applicability, Diagnostic, Fix, Label
from qcompile.diagnostics.frozen import frozen
from qcompile.diagnostics.source import Span
from qcompile.diagnostics.suggest import nearest
from qcompile.policy.dimension import Dimension
from qcompile.policy.expression import Checker
from qcompile.policy.recipe import LiteralValue
from qcompile.policy.selector import Constant
from qcompile.policy.type_errors import wrong_type
from qcompile.policy.typed import Flag, Text, describe
from qcompile.policy.unavailable import not_available
from qcompile.syntax.nodes import Attr, Expr, FloatWord, ListExpr, Name, Ref, SlotRef


class Shape(Enum):
    """What kind of value a setting takes."""

    TEXT = "a string"
    TEXTS = "a string or a list of strings"
    INTEGER = "a whole number"
    NUMBER = "a number"
    FLAG = "true or false"
    WORD = "a word"
    WORDS = "a word or a list of words"
    LITERALS = "a list of literals"
    RAW = "an expression of its own"
    LATER = "nothing in this version"


@frozen
class Attribute:
    """``low`` and ``high`` bound numbers.

    ``choices`` and ``later`` are the words of a ``WORD`` or the strings of a ``TEXT``; there no
    choices are any string.
    """

    name: str
    shape: Shape
    low: int = 0
    high: int | None = None
    choices: tuple[str, ...] = ()
    later: tuple[str, ...] = ()
    required: bool = False
    carried_out: bool = True
    """Otherwise a legal value is QR290 for the plan."""


@frozen
class Given:
    """A setting that was written, with its value as far as it was legal."""

    attr: Attr
    value: LiteralValue | None


class Settings:
    """The settings of one block; a getter returns its default where nothing legal was written."""

    def __init__(self, given: Mapping[str, Given]) -> None:
        self._given = given

    def text(self, name: str) -> str | None:
        match self._given.get(name):
            case Given(_, str(value)):
                return value
            case _:
                return None

    def integer(self, name: str) -> int | None:
        match self._given.get(name):
            case Given(_, int(value)):
                return value
            case _:
                return None

    def number(self, name: str) -> float | None:
        match self._given.get(name):
            case Given(_, int(value) | float(value)):
                return value
            case _:
                return None

    def flag(self, name: str) -> bool | None:
        match self._given.get(name):
            case Given(_, bool(value)):
                return value
            case _:
                return None

    def values(self) -> Mapping[str, LiteralValue]:
        """All that was legal, by name."""
        return {name: one.value for name, one in self._given.items() if one.value is not None}

    def items(self, name: str) -> tuple[LiteralValue, ...]:
        match self._given.get(name):
            case Given(_, tuple(values)):
                return values
            case _:
                return ()

    def texts(self, name: str) -> tuple[str, ...]:
        return tuple(item for item in self.items(name) if isinstance(item, str))

    def attr(self, name: str) -> Attr | None:
        given = self._given.get(name)
        return given.attr if given else None


def read(
    owner: str, attrs: Sequence[Attr], table: Sequence[Attribute], checker: Checker, at: Span
) -> Settings:
    """Problems go to ``checker``; ``owner`` is how they call the block, ``at`` where it stands."""
    rows = {row.name: row for row in table}
    given: dict[str, Given] = {}
    for attr in attrs:
        name = attr.name.text
        row = rows.get(name)
        if row is None:
            checker.report(unknown_setting(attr.name, owner, rows))
        elif row.shape is Shape.LATER:
            checker.report(not_available(f"the setting `{name}`", attr.span, "leave it out"))
        elif name in given:
            checker.report(given_twice(name, attr.name.span, given[name].attr.name.span))
        else:
            given[name] = Given(attr, _value(attr.value, row, checker))
            if not row.carried_out and given[name].value is not None:
                checker.report(not_available(f"the setting `{name}`", attr.span, "leave it out"))
    missing = [row.name for row in table if row.required and row.name not in given]
    for name in missing:
        checker.report(missing_setting(name, owner, at))
    return Settings(given)


def _value(expr: Expr, row: Attribute, checker: Checker) -> LiteralValue | None:
    match row.shape:
        case Shape.TEXT:
            return _text(expr, row, checker)
        case Shape.TEXTS:
            items = expr.items if isinstance(expr, ListExpr) else (expr,)
            texts = [_text(item, row, checker) for item in items]
            return tuple(text for text in texts if text is not None)
        case Shape.INTEGER:
            return integer(expr, row.name, row.low, row.high, checker)
        case Shape.NUMBER:
            return _number(expr, row, checker)
        case Shape.FLAG:
            return _flag(expr, checker)
        case Shape.WORD:
            return _word(expr, row, checker)
        case Shape.WORDS:
            items = expr.items if isinstance(expr, ListExpr) else (expr,)
            words = [_word(item, row, checker) for item in items]
            return tuple(word for word in words if word is not None)
        case Shape.LITERALS:
            return _literals(expr, checker)
        case Shape.RAW | Shape.LATER:
            return None


def integer(expr: Expr, name: str, low: int, high: int | None, checker: Checker) -> int | None:
    constant = checker.constant(expr, Dimension.NUMBER)
    if constant is None:
        return None
    value = constant.value
    if not isinstance(value, int):
        checker.report(wrong_type("a whole number", "a fraction", expr.span))
        return None
    if value < low or (high is not None and value > high):
        checker.report(out_of_range(name, value, low, high, expr.span))
        return None
    return value


def _number(expr: Expr, row: Attribute, checker: Checker) -> float | None:
    constant = checker.constant(expr, Dimension.NUMBER)
    if constant is None or isinstance(constant.value, tuple):
        return None
    if row.low <= constant.value and (row.high is None or constant.value <= row.high):
        return constant.value
    checker.report(out_of_range(row.name, constant.value, row.low, row.high, expr.span, "number"))
    return None


def _flag(expr: Expr, checker: Checker) -> bool | None:
    typed = checker.check(expr)
    if typed is None or isinstance(typed, Flag):
        return None if typed is None else typed.value
    checker.report(wrong_type("true or false", describe(typed), expr.span))
    return None


def _text(expr: Expr, row: Attribute, checker: Checker) -> str | None:
    text = checker.text(expr)
    if text is None or not (row.choices or row.later) or text.value in row.choices:
        return None if text is None else text.value
    if text.value in row.later:
        way_out = f"use {listed(row.choices)}" if row.choices else "leave it out"
        what = f'`{row.name} = "{text.value}"`'
        checker.report(not_available(what, expr.span, way_out))
        return None
    written = Ref((text.value,), expr.span)
    checker.report(unknown_value(row.name, written, (*row.choices, *row.later)))
    return None


def _word(expr: Expr, row: Attribute, checker: Checker) -> str | None:
    word = word_of(expr)
    if word is None:
        checker.report(wrong_type(f"one of {listed(row.choices)}", "something else", expr.span))
        return None
    if word.text in row.later:
        way_out = f"use {listed(row.choices)}" if row.choices else "leave it out"
        checker.report(not_available(f"`{row.name} = {word.text}`", word.span, way_out))
        return None
    if word.text not in row.choices:
        checker.report(unknown_value(row.name, word, (*row.choices, *row.later)))
        return None
    return word.text


def word_of(expr: Expr) -> Ref | None:
    """A single word; that of a slot or ``float`` can be one (``learn = bias``)."""
    match expr:
        case Ref((_,)):
            return expr
        case SlotRef(slot, span):
            return Ref((slot,), span)
        case FloatWord(span):
            return Ref(("float",), span)
        case _:
            return None


def _literals(expr: Expr, checker: Checker) -> tuple[LiteralValue, ...] | None:
    value = _literal(expr, checker)
    if value is None or isinstance(value, tuple):
        return value
    checker.report(wrong_type("a list such as `[3, 64]`", "a single value", expr.span))
    return None


def _literal(expr: Expr, checker: Checker) -> LiteralValue | None:
    if isinstance(expr, ListExpr):
        items = [_literal(item, checker) for item in expr.items]
        values = tuple(item for item in items if item is not None)
        return values if len(values) == len(items) else None
    typed = checker.check(expr)
    match typed:
        case None:
            return None
        case Flag(value) | Text(value):
            return value
        case Constant(int(value) | float(value), Dimension.NUMBER):
            return value
        case _:
            checker.report(wrong_type("a literal", describe(typed), expr.span))
            return None


def unknown_setting(name: Name, owner: str, known: Iterable[str]) -> Diagnostic:
    """QR409."""
    names = sorted(known)
    return Diagnostic(
        Code.UNKNOWN_SETTING,
        f"unknown setting `{name.text}` of {owner}",
        Label(name.span),
        help=_suggestion(name.text, names) or f"the settings are {listed(names)}",
        fixes=tuple(
            Fix(name.span, guess, Applicability.UNSAFE) for guess in nearest(name.text, names)
        ),
    )


def unknown_value(setting: str, ref: Ref, known: Sequence[str]) -> Diagnostic:
    """QR410."""
    return Diagnostic(
        Code.VALUE_RANGE,
        f"`{setting}` cannot be `{ref.text}`",
        Label(ref.span),
        help=_suggestion(ref.text, known) or f"write {listed(known)}",
    )


def given_twice(what: str, second: Span, first: Span) -> Diagnostic:
    """QR210."""
    return Diagnostic(
        Code.DUPLICATE_STATEMENT,
        f"`{what}` is given twice",
        Label(second, "second time"),
        (Label(first, "first time"),),
        help="keep one of them",
    )


def missing_setting(name: str, owner: str, at: Span) -> Diagnostic:
    """QR211."""
    return Diagnostic(
        Code.MISSING_STATEMENT,
        f"{owner} needs the setting `{name}`",
        Label(at),
        help=f"add `{name} = ...`",
    )


def out_of_range(
    name: str, value: float, low: int, high: int | None, span: Span, sort: str = "whole number"
) -> Diagnostic:
    """QR410."""
    bounds = f"at least {low}" if high is None else f"in {low}..{high}"
    return Diagnostic(
        Code.VALUE_RANGE,
        f"`{name}` must be {bounds}, found {value}",
        Label(span),
        help=f"write a {sort} {bounds}",
    )


def _suggestion(name: str, known: Iterable[str]) -> str | None:
    guesses = nearest(name, known)
    return f"did you mean `{guesses[0]}`?" if guesses else None


def listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "nothing"
