"""Parameters of a recipe: a type, a default, a domain, and perhaps a value from outside."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import TypeAlias

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.diagnostics.frozen import frozen
from qcompile.diagnostics.source import Span
from qcompile.diagnostics.suggest import did_you_mean
from qcompile.policy.attributes import given_twice
from qcompile.policy.closure import Imported, Namespace
from qcompile.policy.dimension import Dimension
from qcompile.policy.expression import Checker
from qcompile.policy.recipe import ParameterValue
from qcompile.policy.scope import Scope
from qcompile.policy.selector import Constant
from qcompile.policy.type_errors import wrong_type
from qcompile.policy.typed import Flag, Text, Typed
from qcompile.syntax.nodes import Attr, Binary, Expr, ListExpr, Name, Param

Known: TypeAlias = Constant | Flag | Text

OPTION = "--param"


def _whole(text: str) -> int:
    return int(text)


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _truth(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(text)
    return text == "true"


TYPES: tuple[tuple[str, str, Callable[[str], ParameterValue]], ...] = (
    ("int", "a whole number", _whole),
    ("float", "a number", _number),
    ("bool", "`true` or `false`", _truth),
    ("string", "a string", str),
)
"""The word of the language, how a diagnostic calls a value, and how one is read from text."""


@frozen
class Arguments:
    """Values given from outside, as text, by the name that the recipe itself would use."""

    given: Mapping[str, str] = field(default_factory=dict[str, str])
    imported: Mapping[str, Attr] = field(default_factory=dict[str, Attr])
    """What importing files set, by the same name; a value from outside comes before it."""

    def value(self, node: Param, key: str, checker: Checker) -> Known | None:
        """The value in force; problems go to ``checker``."""
        row = next((row for row in TYPES if row[0] == node.type.text), None)
        if row is None:
            checker.report(unknown_type(node.type))
            return None
        default = _fitting(node, node.default, "the default", checker)
        if key in self.given:
            found = _read(node, key, self.given[key], checker)
            origin = f"{OPTION} {key}={self.given[key]}"
            return _within(node, found, Label(node.type.span), origin, checker)
        if key in self.imported:
            value = self.imported[key].value
            found = _fitting(node, value, "set here", checker)
            return _within(node, found, Label(value.span, "set here"), None, checker)
        if node.default is None:
            checker.report(no_value(node, key))
            return None
        at = Label(node.default.span, "the default")
        return _within(node, default, at, None, checker)

    def unknown(self, scope: Scope) -> list[Diagnostic]:
        known = scope.keys("param")
        return [unknown_parameter(name, known) for name in self.given if name not in known]


def set_by_imports(
    namespaces: Sequence[Namespace], scope: Scope
) -> tuple[Mapping[str, Attr], list[Diagnostic]]:
    """What ``import "x" as x { bits = 4 }`` sets, by the key of the parameter in the closure."""
    prefixes = {one.source.name: one.prefix for one in namespaces}
    found: dict[str, Attr] = {}
    problems: list[Diagnostic] = []
    rows = [(item, attr) for one in namespaces for item in one.imports for attr in item.node.attrs]
    for item, attr in rows:
        if item.target is None:  # which is reported there
            continue
        key = prefixes[item.target] + attr.name.text
        definition = scope.definitions.get(key)
        if definition is None or definition.word != "param":
            problems.append(no_such_parameter(attr.name, item.alias, _params_of(item, scope)))
        elif key in found:
            problems.append(given_twice(key, attr.name.span, found[key].name.span))
        else:
            found[key] = attr
    return found, problems


def _params_of(item: Imported, scope: Scope) -> list[str]:
    """As the file that is imported calls them."""
    every = (scope.definitions[key] for key in scope.keys("param"))
    return [one.name.text for one in every if one.name.span.source.name == item.target]


def _fitting(node: Param, value: Expr | None, what: str, checker: Checker) -> Known | None:
    typed = None if value is None else checker.check(value)
    if typed is None or value is None:
        return None
    if _fits(node.type.text, typed):
        assert isinstance(typed, Constant | Flag | Text)
        return typed
    checker.report(wrong_value(node, Label(value.span, what)))
    return None


def values(scope: Scope, checker: Checker) -> dict[str, ParameterValue]:
    """Every parameter of the closure with the value in force."""
    found: dict[str, ParameterValue] = {}
    for key in scope.keys("param"):
        definition = scope.definitions[key]
        typed = checker.define(definition, definition.name.span)
        match typed:
            case Flag(value) | Text(value) | Constant(int(value) | float(value)):
                found[key] = value
            case _:
                pass
    return found


def argument(value: ParameterValue) -> str:
    """``value`` as it would be given from outside."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _fits(type_: str, typed: Typed) -> bool:
    match typed:
        case Constant(int(), Dimension.NUMBER):
            return type_ in ("int", "float")
        case Constant(float(), Dimension.NUMBER):
            return type_ == "float"
        case Flag():
            return type_ == "bool"
        case Text():
            return type_ == "string"
        case _:
            return False


def _read(node: Param, key: str, text: str, checker: Checker) -> Known | None:
    read = next(read for name, _, read in TYPES if name == node.type.text)
    try:
        value = read(text)
    except ValueError:
        checker.report(wrong_argument(node, key, text))
        return None
    span = node.name.span
    match value:
        case bool():
            return Flag(value, span)
        case str():
            return Text(value, span)
        case _:
            return checker.number(Constant(value, Dimension.NUMBER, span))


def _within(
    node: Param, value: Known | None, at: Label, origin: str | None, checker: Checker
) -> Known | None:
    if value is None or node.domain is None:
        return value
    allowed = _allows(node.domain, value, checker)
    if allowed is False:
        checker.report(outside(node, node.domain.span, value, at, origin))
    return value if allowed else None


def _allows(domain: Expr, value: Known, checker: Checker) -> bool | None:
    """``None`` for a domain that is wrong itself."""
    match domain:
        case Binary("..", left, right):
            low = checker.constant(left, Dimension.NUMBER)
            high = checker.constant(right, Dimension.NUMBER)
            if low is None or high is None:
                return None
            return isinstance(value, Constant) and _between(low, value, high)
        case ListExpr(items):
            found = [checker.check(item) for item in items]
            if any(item is None for item in found):
                return None
            return any(_same(item, value) for item in found)
        case _:
            wanted = "a range such as `2..8`, or a list such as `[4, 8]`"
            checker.report(wrong_type(wanted, "something else", domain.span))
            return None


def _between(low: Constant, value: Constant, high: Constant) -> bool:
    one, two, three = low.value, value.value, high.value
    if isinstance(one, tuple) or isinstance(two, tuple) or isinstance(three, tuple):
        return False
    return one <= two <= three


def _same(item: Typed | None, value: Known) -> bool:
    return isinstance(item, Constant | Flag | Text) and (
        type(item) is type(value) and item.value == value.value
    )


def _shown(value: Known) -> str:
    return f'"{value.value}"' if isinstance(value, Text) else str(value.value).lower()


def _called(type_: Name) -> str:
    return next(called for name, called, _ in TYPES if name == type_.text)


def outside(node: Param, domain: Span, value: Known, at: Label, origin: str | None) -> Diagnostic:
    """QR407."""
    return Diagnostic(
        Code.PARAMETER,
        f"parameter `{node.name.text}` cannot be {_shown(value)}",
        Label(domain, "what it can be"),
        () if origin else (at,),
        notes=(f"given by `{origin}`",) if origin else (),
        help="give a value of the domain",
    )


def wrong_argument(node: Param, key: str, text: str) -> Diagnostic:
    """QR407."""
    return Diagnostic(
        Code.PARAMETER,
        f"parameter `{node.name.text}` must be {_called(node.type)}, found `{text}`",
        Label(node.type.span, "its type"),
        notes=(f"given by `{OPTION} {key}={text}`",),
        help=f"give {_called(node.type)}",
    )


def wrong_value(node: Param, at: Label) -> Diagnostic:
    """QR407."""
    return Diagnostic(
        Code.PARAMETER,
        f"parameter `{node.name.text}` must be {_called(node.type)}",
        at,
        (Label(node.type.span, "its type"),),
        help=f"write {_called(node.type)}, or another type",
    )


def no_value(node: Param, key: str) -> Diagnostic:
    """QR407."""
    return Diagnostic(
        Code.PARAMETER,
        f"parameter `{node.name.text}` has no value",
        Label(node.span, "has no default"),
        help=f"call qcompile with `{OPTION} {key}=...`, or write a default",
    )


def unknown_type(type_: Name) -> Diagnostic:
    """QR410."""
    known = [name for name, _, _ in TYPES]
    return Diagnostic(
        Code.VALUE_RANGE,
        f"unknown type `{type_.text}` of a parameter",
        Label(type_.span),
        help=did_you_mean(type_.text, known) or "the types are `int`, `float`, `bool`, `string`",
    )


def no_such_parameter(name: Name, library: Name, known: list[str]) -> Diagnostic:
    """QR201."""
    listed = ", ".join(f"`{one}`" for one in known) or "none"
    return Diagnostic(
        Code.UNKNOWN_NAME,
        f"`{library.text}` has no parameter `{name.text}`",
        Label(name.span),
        help=did_you_mean(name.text, known) or f"its parameters are: {listed}",
    )


def unknown_parameter(name: str, known: list[str]) -> Diagnostic:
    """QR201."""
    listed = ", ".join(f"`{one}`" for one in known) or "none"
    return Diagnostic(
        Code.UNKNOWN_NAME,
        f"the recipe has no parameter `{name}`",
        subject=f"{OPTION} {name}",
        help=did_you_mean(name, known) or f"its parameters are: {listed}",
    )
