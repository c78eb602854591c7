"""A safetensors file, taken apart with a reader that shares nothing with the one that loads it."""

import struct
from dataclasses import dataclass
from math import prod

from qcompile.audit.findings import MalformedError
from qcompile.audit.strict_json import Json, field, naturals, table

MAX_HEADER = 100_000_000
WIDTHS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 8),
}
"""Bytes of one element."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    dtype: str
    shape: tuple[int, ...]
    data: memoryview


def tensors(data: bytes) -> dict[str, StoredTensor]:
    """Raise ``MalformedError`` unless the tensors fill the file without hole or overlap."""
    if len(data) < 8:
        raise MalformedError("is shorter than the length of its header")
    (length,) = struct.unpack_from("<Q", data)
    if length > min(MAX_HEADER, len(data) - 8):
        raise MalformedError("announces a header longer than the file")
    header = table(data[8 : 8 + length])
    header.pop("__metadata__", None)
    body = memoryview(data)[8 + length :]
    spans: list[tuple[int, int]] = []
    found: dict[str, StoredTensor] = {}
    for name, entry in header.items():
        begin, end, tensor = _tensor(name, entry, body)
        spans.append((begin, end))
        found[name] = tensor
    at = 0
    for begin, end in sorted(spans):
        if begin != at:
            raise MalformedError("has a hole or an overlap between tensors")
        at = end
    if at != len(body):
        raise MalformedError("has bytes that belong to no tensor")
    return found


def _tensor(name: str, entry: Json, body: memoryview) -> tuple[int, int, StoredTensor]:
    if not isinstance(entry, dict):
        raise MalformedError(f"does not describe `{name}`")
    dtype, shape = field(entry, "dtype", str), naturals(entry, "shape")
    offsets = naturals(entry, "data_offsets")
    if len(offsets) != 2 or dtype not in WIDTHS:
        raise MalformedError(f"does not describe `{name}`")
    begin, end = offsets
    if end - begin != prod(shape) * WIDTHS[dtype] or end > len(body):
        raise MalformedError(f"gives `{name}` other bytes than its shape needs")
    return begin, end, StoredTensor(dtype, shape, body[begin:end])
