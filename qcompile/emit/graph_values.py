"""Arguments of graph nodes as JSON and back.

Scalars stand for themselves; everything else is a table with one key that says what it is:
``{"node": "relu"}``, ``{"tuple": [1, 2]}``, ``{"slice": [null, 3, null]}``, ``{"dtype": "int64"}``,
``{"float": "-inf"}``, ``{"dict": [["key", 1]]}``.
"""

import math
import re
from collections.abc import Iterable, Mapping
from types import EllipsisType
from typing import cast

import torch
from pydantic import JsonValue
from torch import fx
from torch.fx.node import Argument

from qcompile.emit.allowed import DTYPE_OF, LAYOUTS, MEMORY_FORMATS, dtype_name

_DEVICE = re.compile(r"(cpu|cuda|meta|mps|xpu)(:[0-9]{1,3})?")
_FLOATS: tuple[str, ...] = ("inf", "-inf", "nan")


class UnstorableValueError(Exception):
    """A value that has no form in the file; the text says what it is."""


class UnsafeValueError(Exception):
    """A value in a file that this program would never have written."""


def encode_value(value: object) -> JsonValue:
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else {"float": str(value)}
        case fx.Node():
            return {"node": value.name}
        case torch.Size():
            return {"size": _encoded(value)}
        case tuple():
            return {"tuple": _encoded(cast("tuple[object, ...]", value))}
        case list():
            return {"list": _encoded(cast("list[object]", value))}
        case Mapping():
            pairs = cast("Mapping[object, object]", value).items()
            return {"dict": [_encoded(pair) for pair in pairs]}
        case slice():
            return {"slice": _encoded((value.start, value.stop, value.step))}
        case EllipsisType():
            return {"ellipsis": True}
        case _:
            return _encoded_torch(value)


def decode_value(value: JsonValue, nodes: Mapping[str, fx.Node]) -> Argument:
    """Inverse of ``encode_value``; ``nodes`` are those that may be referred to."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case {"node": str(name)} if len(value) == 1:
            if name not in nodes:
                raise UnsafeValueError(f"refers to `{name}`, which does not come before it")
            return nodes[name]
        case {"tuple": list(items)} if len(value) == 1:
            return tuple(decode_value(item, nodes) for item in items)
        case {"list": list(items)} if len(value) == 1:
            return [decode_value(item, nodes) for item in items]
        case {"dict": list(pairs)} if len(value) == 1:
            return dict(_pair(pair, nodes) for pair in pairs)
        case {"slice": [start, stop, step]} if len(value) == 1:
            bounds = (decode_value(bound, nodes) for bound in (start, stop, step))
            return slice(*bounds)
        case _:
            return _decoded_torch(value)


def _encoded(items: Iterable[object]) -> list[JsonValue]:
    return [encode_value(item) for item in items]


def _encoded_torch(value: object) -> JsonValue:
    match value:
        case torch.dtype() if dtype_name(value) in DTYPE_OF:
            return {"dtype": dtype_name(value)}
        case torch.device() if _DEVICE.fullmatch(str(value)):
            return {"device": str(value)}
        case torch.memory_format():
            return {"memory_format": str(value).removeprefix("torch.")}
        case torch.layout() if value is torch.strided:
            return {"layout": "strided"}
        case _:
            raise UnstorableValueError(f"a value of class `{type(value).__name__}`")


def _decoded_torch(value: JsonValue) -> Argument:
    match value:
        case {"float": str(text)} if len(value) == 1 and text in _FLOATS:
            return float(text)
        case {"size": list(items)} if len(value) == 1 and all(type(n) is int for n in items):
            return torch.Size(cast("list[int]", items))
        case {"dtype": str(name)} if len(value) == 1 and name in DTYPE_OF:
            return DTYPE_OF[name]
        case {"device": str(name)} if len(value) == 1 and _DEVICE.fullmatch(name):
            return torch.device(name)
        case {"memory_format": str(name)} if len(value) == 1 and name in MEMORY_FORMATS:
            return cast("torch.memory_format", getattr(torch, name))
        case {"layout": str(name)} if len(value) == 1 and name in LAYOUTS:
            return cast("torch.layout", getattr(torch, name))
        case {"ellipsis": True} if len(value) == 1:
            return cast("Argument", ...)
        case _:
            raise UnsafeValueError("has an argument of no known form")


def _pair(pair: JsonValue, nodes: Mapping[str, fx.Node]) -> tuple[str, Argument]:
    match pair:
        case [str(key), item]:
            return key, decode_value(item, nodes)
        case _:
            raise UnsafeValueError("has a dict whose keys are not text")
