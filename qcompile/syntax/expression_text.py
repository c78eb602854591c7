"""Expressions as text: parentheses only where the tree needs them."""

from collections.abc import Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import assert_never

from qcompile.syntax.nodes import (
    Arg,
    Attr,
    Binary,
    Bool,
    Call,
    Expr,
    FloatWord,
    Index,
    ListExpr,
    Name,
    Number,
    Quantity,
    Record,
    Ref,
    Regex,
    SlotRef,
    String,
    Unary,
)

OPERATORS = MappingProxyType(
    {
        **{"or": 1, "and": 2, "except": 2, "is": 4, "..": 5},
        **dict.fromkeys(("==", "!=", "<", "<=", ">", ">="), 4),
        **{"+": 6, "-": 6, "*": 7, "/": 7, "%": 7},
    }
)
"""How tightly each operator binds; those of one number stand in one rule of the grammar."""
PREFIXES = MappingProxyType({"not": 3, "-": 8})
_CHAINED = frozenset({1, 2, 6, 7})
"""Operators of these rules may follow one another, folded from the left."""
_INDEX = 9
_PRIMARY = 10


def expression(node: Expr, least: int = 0) -> str:
    """Text of ``node`` where only what binds at least as tightly as ``least`` may stand bare."""
    text = _bare(node)
    return text if _strength(node) >= least else f"({text})"


def operand(node: Expr) -> str:
    """Text of what ``modifier=`` takes."""
    return expression(node, PREFIXES["-"])


def arguments(args: Sequence[Arg]) -> str:
    return ", ".join(
        expression(arg.value) if arg.name is None else f"{arg.name.text}={expression(arg.value)}"
        for arg in args
    )


def setting(attr: Attr) -> str:
    return f"{attr.name.text} = {expression(attr.value)}"


def quoted(value: String | Name) -> str:
    return quoted_text(value.value if isinstance(value, String) else value.text)


def quoted_text(text: str) -> str:
    r"""A tab stays as it is: written ``\t`` the string might exceed its limit."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def number(value: int | float) -> str:
    """Shortest text that reads back as ``value``."""
    return repr(value)


def _strength(node: Expr) -> int:
    match node:
        case Binary():
            return OPERATORS[node.op]
        case Unary():
            return PREFIXES[node.op]
        case Index():
            return _INDEX
        case _:
            return _PRIMARY


def _bare(node: Expr) -> str:
    match node:
        case Number() | Quantity() | String() | Regex() | Bool():
            return _literal(node)
        case Ref() | SlotRef() | FloatWord():
            return _word(node)
        case Call():
            return f"{node.func.text}({arguments(node.args)})"
        case Index():
            return f"{expression(node.base, _PRIMARY)}[{arguments(node.args)}]"
        case ListExpr():
            return f"[{', '.join(map(expression, node.items))}]"
        case Record():
            return f"{{ {', '.join(map(setting, node.attrs))} }}"
        case Unary():
            between = " " if node.op == "not" else ""
            return f"{node.op}{between}{expression(node.operand, PREFIXES[node.op])}"
        case Binary():
            return _binary(node)
        case _:
            assert_never(node)


def _word(node: Ref | SlotRef | FloatWord) -> str:
    match node:
        case Ref():
            return node.text
        case SlotRef():
            return node.slot
        case FloatWord():
            return "float"
        case _:
            assert_never(node)


def _binary(node: Binary) -> str:
    """Unroll a chain, which is as deep as it is long."""
    strength = OPERATORS[node.op]
    parts = [expression(node.right, strength + 1), node.op]
    left = node.left
    while strength in _CHAINED and isinstance(left, Binary) and OPERATORS[left.op] == strength:
        parts += [expression(left.right, strength + 1), left.op]
        left = left.left
    parts.append(expression(left, strength + 1))
    return " ".join(reversed(parts))


def _literal(node: Number | Quantity | String | Regex | Bool) -> str:
    match node:
        case Number():
            return number(node.value)
        case Quantity():
            return f"{_positional(node.value)}{node.unit}"
        case String():
            return quoted(node)
        case Regex():
            return f're"{node.pattern}"'
        case Bool():
            return "true" if node.value else "false"
        case _:
            assert_never(node)


def _positional(value: int | float) -> str:
    """Without an exponent, which a unit could not follow."""
    if isinstance(value, int):
        return str(value)
    text = f"{Decimal(repr(value)):f}"
    return text if "." in text else f"{text}.0"
