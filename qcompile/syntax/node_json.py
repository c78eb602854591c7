"""Nodes as JSON values and back; their fields in ``nodes.py`` are the schema.

A node is an object of its fields and its ``node``, the name of its class in snake case. A name is
a plain string. Spans are left out: they tell where something stood, not what it says.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import MappingProxyType, NoneType, UnionType
from typing import TypeAlias, cast, get_args, get_origin, get_type_hints

from qcompile.diagnostics.source import Source, Span
from qcompile.syntax.expression_text import OPERATORS, PREFIXES
from qcompile.syntax.nodes import Binary, EvaluateBlock, Name, Quantity, Ref, Regex, SlotRef, Unary

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

NOWHERE = Source("", "").span(0, 0)

_IDENTIFIER = r"[A-Za-z_][A-Za-z0-9_]*"
_ANYTHING = r"(?s:.*)"
_PATTERNS = MappingProxyType(
    {
        (Binary, "op"): "|".join(map(re.escape, OPERATORS)),
        (Unary, "op"): "|".join(map(re.escape, PREFIXES)),
        (Quantity, "unit"): r"%|[A-Za-z]+",
        (Ref, "parts"): _IDENTIFIER,
        (Regex, "pattern"): r'(?:\\.|[^"\\\n])*',
        (SlotRef, "slot"): _IDENTIFIER,
        (EvaluateBlock, "metric"): _ANYTHING,
    }
)
"""What the text of a field must look like, where that is more than any text or a name."""


class Malformed(Exception):
    """``message`` says what is wrong at ``path``, as in ``$.statements[2].name``."""

    def __init__(self, path: str, message: str) -> None:
        self.path = path
        self.message = message
        super().__init__(f"{path}: {message}")


def encode(value: object) -> Json:
    """``value`` is a node, a tuple of nodes, or a field without nodes."""
    if isinstance(value, Name):
        return value.text
    if isinstance(value, tuple):
        return [encode(item) for item in cast("tuple[object, ...]", value)]
    if is_dataclass(value):
        kept = [f.name for f in fields(value) if f.name != "span"]
        found: dict[str, Json] = {name: encode(getattr(value, name)) for name in kept}
        return {"node": _kind_of(type(value)), **found}
    assert value is None or isinstance(value, bool | int | float | str)
    return value


def decode(value: Json, hint: object, path: str, pattern: str | None = None) -> object:
    """Give what ``hint``, the annotation of a field, asks for. Raises ``Malformed``.

    ``pattern`` is for the texts in it.
    """
    wanted = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    if value is None and NoneType in wanted:
        return None
    match [one for one in wanted if one is not NoneType]:
        case [one] if get_origin(one) is tuple:
            return _items(value, get_args(one)[0], path, pattern)
        case [one] if one is bool:
            return _boolean(value, path)
        case [one] if one is str:
            return _text(value, path, _ANYTHING if pattern is None else pattern)
        case [one] if one is Name:
            return Name(_text(value, path, _IDENTIFIER if pattern is None else pattern), NOWHERE)
        case [_, two] if two is float:
            return _number(value, path)
        case _:
            return _node(value, _kinds(hint), path)


def check_fields(value: Mapping[str, Json], wanted: set[str], path: str) -> None:
    """Raise ``Malformed`` unless ``value`` has exactly the fields ``wanted``."""
    for name in sorted(wanted - value.keys()):
        raise Malformed(path, f"the field `{name}` is missing")
    for name in sorted(value.keys() - wanted):
        raise Malformed(path, f"unknown field {_shown(name)}")


@cache
def _kind_of(node: type) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", node.__name__).lower()


@cache
def _kinds(hint: object) -> Mapping[str, type]:
    nodes = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    named = {_kind_of(node): node for node in cast("tuple[type, ...]", nodes)}
    return MappingProxyType({name: node for name, node in named.items() if node is not NoneType})


@cache
def _hints(node: type) -> Mapping[str, object]:
    hints = get_type_hints(node)
    return MappingProxyType({name: hint for name, hint in hints.items() if hint is not Span})


def _items(value: Json, hint: object, path: str, pattern: str | None) -> tuple[object, ...]:
    if not isinstance(value, list):
        raise Malformed(path, f"expected a list, found {_shown(value)}")
    return tuple(decode(v, hint, f"{path}[{i}]", pattern) for i, v in enumerate(value))


def _node(value: Json, kinds: Mapping[str, type], path: str) -> object:
    if not isinstance(value, dict):
        raise Malformed(path, f"expected an object, found {_shown(value)}")
    kind = value.get("node")
    if not isinstance(kind, str) or kind not in kinds:
        named = ", ".join(f"`{name}`" for name in sorted(kinds))
        raise Malformed(f"{path}.node", f"expected {named}")
    node = kinds[kind]
    hints = _hints(node)
    check_fields(value, {"node", *hints}, path)
    found = {
        name: decode(value[name], hint, f"{path}.{name}", _PATTERNS.get((node, name)))
        for name, hint in hints.items()
    }
    return node(**found, span=NOWHERE)


def _number(value: Json, path: str) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Malformed(path, f"expected a number, found {_shown(value)}")
    if not math.isfinite(value) or math.copysign(1, value) < 0:
        raise Malformed(path, "expected a finite number without a sign")
    return value


def _boolean(value: Json, path: str) -> bool:
    if not isinstance(value, bool):
        raise Malformed(path, f"expected true or false, found {_shown(value)}")
    return value


def _text(value: Json, path: str, pattern: str) -> str:
    if not isinstance(value, str):
        raise Malformed(path, f"expected a string, found {_shown(value)}")
    if "\0" in value or any("\ud800" <= char <= "\udfff" for char in value):
        raise Malformed(path, "the string holds a character that UTF-8 text cannot hold")
    if not re.fullmatch(pattern, value):
        raise Malformed(path, f"{_shown(value)} cannot stand here")
    return value


def _shown(value: Json) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return "a number"
        case str():
            return f"`{value[:40]}`" if value.isprintable() else "a string"
        case list():
            return "a list"
        case dict():
            return "an object"
