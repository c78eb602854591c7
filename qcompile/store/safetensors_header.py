"""The header of a safetensors file, read as bytes and checked before any tensor is.

The format's own readers accept duplicate keys (the last one wins), so a file may show one tensor to
a reviewer and load another; here that, a hole, an overlap, a truncation or a size that does not
follow from the shape makes the whole file unusable.
"""

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, cast

LENGTH_BYTES = 8
MAX_HEADER_BYTES = 100_000_000
"""The bound of the reference implementation."""
MAX_RANK = 64
MAX_SIZE = 1 << 63

ITEM_BYTES: dict[str, int] = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "F8_E8M0": 1,
    "U16": 2,
    "I16": 2,
    "F16": 2,
    "BF16": 2,
    "U32": 4,
    "I32": 4,
    "F32": 4,
    "U64": 8,
    "I64": 8,
    "F64": 8,
    "C64": 8,
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor; ``[begin, end)`` counts bytes from the start of the file."""

    name: str
    dtype: str
    """The format's own name: ``F32``, ``U8``."""
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def nbytes(self) -> int:
        return self.end - self.begin


@dataclass(frozen=True, slots=True)
class Header:
    """Entries in file order: they tile the bytes after the header without hole or overlap."""

    entries: tuple[Entry, ...]
    metadata: tuple[tuple[str, str], ...]
    file_bytes: int

    @property
    def tensor_bytes(self) -> int:
        return sum(entry.nbytes for entry in self.entries)


class _Refused(ValueError):
    """The header breaks a rule; the text says which."""


def read_header(path: Path) -> Header | str:
    """Return the header of ``path``, or why it cannot be used (lower case, no full stop).

    Reads the header alone, whatever the file's size.
    """
    if not path.is_file():
        return "is not a file"
    try:
        with path.open("rb") as file:
            file_bytes = file.seek(0, 2)
            file.seek(0)
            prefix = file.read(LENGTH_BYTES)
            length = _header_length(prefix, file_bytes)
            raw = file.read(length)
        return _parsed(raw, file_bytes)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    except _Refused as error:
        return str(error)


def parse_header(data: bytes) -> Header | str:
    """As ``read_header``, for a file that is already in memory."""
    try:
        length = _header_length(data[:LENGTH_BYTES], len(data))
        return _parsed(data[LENGTH_BYTES : LENGTH_BYTES + length], len(data))
    except _Refused as error:
        return str(error)


def _header_length(prefix: bytes, file_bytes: int) -> int:
    if len(prefix) < LENGTH_BYTES:
        raise _Refused("is shorter than the header length")
    length = int.from_bytes(prefix, "little")
    if length > MAX_HEADER_BYTES:
        raise _Refused(f"announces a header of {length} bytes; at most {MAX_HEADER_BYTES} are read")
    if length > file_bytes - LENGTH_BYTES:
        raise _Refused("is truncated inside the header")
    return length


def _parsed(raw: bytes, file_bytes: int) -> Header:
    document = _document(raw)
    metadata = _metadata(document.pop("__metadata__", {}))
    start = LENGTH_BYTES + len(raw)
    entries = [_entry(name, value, start) for name, value in document.items()]
    entries.sort(key=lambda entry: (entry.begin, entry.end))
    _check_tiling(entries, start, file_bytes)
    return Header(tuple(entries), metadata, file_bytes)


def _document(raw: bytes) -> dict[str, Any]:
    if not raw.startswith(b"{"):
        raise _Refused("does not begin with a JSON header")
    try:
        document = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_without_duplicates,
            parse_constant=_no_constant,
        )
    except _Refused:
        raise
    except (ValueError, RecursionError):
        raise _Refused("has a header that is not JSON") from None
    return cast("dict[str, Any]", document)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, value in pairs:
        name.encode()  # ValueError for half of a surrogate pair, which could not be written again
        if name in made:
            raise _Refused(f"names `{name}` twice in the header")
        made[name] = value
    return made


def _no_constant(text: str) -> None:
    raise _Refused(f"has `{text}` in the header")


def _metadata(value: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict):
        raise _Refused("has metadata that is not a table")
    table = cast("dict[str, object]", value)
    if not all(isinstance(item, str) for item in table.values()):
        raise _Refused("has metadata that is not text")
    return tuple(sorted((key, str(item)) for key, item in table.items()))


def _entry(name: str, value: object, start: int) -> Entry:
    if not isinstance(value, dict):
        raise _Refused(f"describes `{name}` by something that is not a table")
    table = cast("dict[str, object]", value)
    if table.keys() != {"dtype", "shape", "data_offsets"}:
        raise _Refused(f"describes `{name}` by other fields than dtype, shape and data_offsets")
    shape = _naturals(table["shape"])
    offsets = _naturals(table["data_offsets"])
    dtype = table["dtype"]
    if shape is None or offsets is None or len(offsets) != 2:
        raise _Refused(f"has a shape or offsets of `{name}` that are not natural numbers")
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise _Refused(f"has an unknown dtype for `{name}`")
    begin, end = offsets
    if end - begin != prod(shape) * ITEM_BYTES[dtype]:
        raise _Refused(f"gives `{name}` {end - begin} bytes, which its shape and dtype do not need")
    return Entry(name, dtype, shape, start + begin, start + end)


def _naturals(value: object) -> tuple[int, ...] | None:
    if not isinstance(value, list):
        return None
    items = cast("list[object]", value)
    if len(items) > MAX_RANK:
        return None
    if not all(type(item) is int and 0 <= item < MAX_SIZE for item in items):
        return None
    return tuple(cast("list[int]", items))


def _check_tiling(entries: list[Entry], start: int, file_bytes: int) -> None:
    at = start
    for entry in entries:
        if entry.begin < at:
            raise _Refused(f"has `{entry.name}` overlapping the tensor before it")
        if entry.begin > at:
            raise _Refused(f"has a hole of {entry.begin - at} bytes before `{entry.name}`")
        at = entry.end
    if at > file_bytes:
        raise _Refused(f"is truncated: {at - file_bytes} bytes are missing")
    if at < file_bytes:
        raise _Refused(f"has {file_bytes - at} bytes after the last tensor")
