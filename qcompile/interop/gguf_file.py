"""The container GGUF, version 3: metadata, tensor infos, then tensors at multiples of 32 bytes."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

MAGIC = b"GGUF"
VERSION = 3
ALIGNMENT = 32
MAX_RANK = 4
MAX_NAME = 63
"""Bytes; the reference implementation keeps 64 with the end."""

_UINT32, _INT32, _FLOAT32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9
"""Types of metadata."""

Value = str | bool | int | float | tuple[str, ...] | tuple[int, ...] | tuple[float, ...]
"""Numbers are written as uint32 and float32, several as int32 and float32."""


class GgmlType(IntEnum):
    F32 = 0
    F16 = 1
    Q4_0 = 2
    Q4_1 = 3
    Q5_0 = 6
    Q5_1 = 7
    Q8_0 = 8
    I8 = 24
    I16 = 25
    I32 = 26
    I64 = 27
    F64 = 28
    BF16 = 30


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """``shape`` as torch has it: the file counts axes from the last one."""

    name: str
    ggml_type: GgmlType
    shape: tuple[int, ...]
    data: bytes


def gguf_bytes(metadata: Mapping[str, Value], tensors: Sequence[GgufTensor]) -> bytes:
    head = [MAGIC, struct.pack("<IQQ", VERSION, len(tensors), len(metadata))]
    for key, value in metadata.items():
        head.append(_text(key) + _value(value))
    offset = 0
    body: list[bytes] = []
    for tensor in tensors:
        axes = tuple(reversed(tensor.shape)) or (1,)
        head.append(_text(tensor.name) + struct.pack(f"<I{len(axes)}Q", len(axes), *axes))
        head.append(struct.pack("<IQ", tensor.ggml_type, offset))
        body.append(_aligned(tensor.data))
        offset += len(body[-1])
    return _aligned(b"".join(head)) + b"".join(body)


def _value(value: Value) -> bytes:
    match value:
        case str():
            return struct.pack("<I", _STRING) + _text(value)
        case bool():
            return struct.pack("<I?", _BOOL, value)
        case int():
            return struct.pack("<II", _UINT32, value)
        case float():
            return struct.pack("<If", _FLOAT32, value)
        case (int(), *_):
            return struct.pack(f"<IIQ{len(value)}i", _ARRAY, _INT32, len(value), *value)
        case (float(), *_):
            return struct.pack(f"<IIQ{len(value)}f", _ARRAY, _FLOAT32, len(value), *value)
        case _:
            head = struct.pack("<IIQ", _ARRAY, _STRING, len(value))
            return head + b"".join(_text(str(item)) for item in value)


def _text(text: str) -> bytes:
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def _aligned(data: bytes) -> bytes:
    return data + bytes(-len(data) % ALIGNMENT)
