"""JSON in which every key stands once, and the fields of it with their types."""

import hashlib
import json
from collections.abc import Mapping
from typing import TypeAlias, TypeVar, cast

from qcompile.audit.findings import MalformedError

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Table: TypeAlias = Mapping[str, Json]
Wanted = TypeVar("Wanted")


def table(data: bytes) -> dict[str, Json]:
    try:
        found: object = json.loads(
            data.decode("utf-8"), object_pairs_hook=_once, parse_constant=_refused
        )
    except (ValueError, RecursionError):
        raise MalformedError("is not JSON") from None
    if not isinstance(found, dict):
        raise MalformedError("is not a JSON object")
    return cast("dict[str, Json]", found)


def field(of: Table, key: str, kind: type[Wanted]) -> Wanted:
    value = of.get(key)
    if not isinstance(value, kind) or (kind is int and (value is True or value is False)):
        raise MalformedError(f"has no {kind.__name__} `{key}`")
    return value


def optional(of: Table, key: str, kind: type[Wanted]) -> Wanted | None:
    return None if of.get(key) is None else field(of, key, kind)


def tables(of: Table, key: str) -> list[dict[str, Json]]:
    items = cast("list[object]", field(of, key, list))
    if not all(isinstance(item, dict) for item in items):
        raise MalformedError(f"has something else than objects in `{key}`")
    return cast("list[dict[str, Json]]", items)


def naturals(of: Table, key: str) -> tuple[int, ...]:
    items = cast("list[object]", field(of, key, list))
    if not all(type(item) is int and item >= 0 for item in items):
        raise MalformedError(f"has something else than natural numbers in `{key}`")
    return tuple(cast("list[int]", items))


def strings(of: Table, key: str) -> tuple[str, ...]:
    """Empty where there is no such key: it is one of later versions."""
    items = cast("list[object]", optional(of, key, list) or [])
    if not all(isinstance(item, str) for item in items):
        raise MalformedError(f"has something else than names in `{key}`")
    return tuple(cast("list[str]", items))


def canonical(value: object) -> bytes:
    """Sorted keys, no spaces, UTF-8: what hashes are taken of."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _once(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise MalformedError("names a key twice")
    return made


def _refused(text: str) -> None:
    raise MalformedError(f"has the number `{text}`")
