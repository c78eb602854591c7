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

_STRING, _UINT32 = 8, 4


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


def gguf_bytes(metadata: Mapping[str, str | int], tensors: Sequence[GgufTensor]) -> bytes:
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


def _value(value: str | int) -> bytes:
    if isinstance(value, int):
        return struct.pack("<II", _UINT32, value)
    return struct.pack("<I", _STRING) + _text(value)


def _text(text: str) -> bytes:
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def _aligned(data: bytes) -> bytes:
    return data + bytes(-len(data) % ALIGNMENT)
