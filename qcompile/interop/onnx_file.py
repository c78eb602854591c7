"""An ONNX model as values, and its bytes.

The messages are those of ``onnx.proto`` (IR version 10), the wire format that of protocol buffers:
``(field << 3 | wire type)`` and a varint or a length with that many bytes. Writing the dozen
messages that a model consists of needs no library, gives equal bytes for equal models, and leaves
the library free to be the check.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

IR_VERSION = 10
"""Of onnx 1.16, the first with 4-bit integers."""
OPSET = 21
"""The first with blocked ``DequantizeLinear``."""
MAX_BYTES = (1 << 31) - 1
"""Protocol buffers end there; larger models would need a second file."""

_VARINT, _LENGTH, _FLOAT = 0, 2, 5


class ElementType(IntEnum):
    """``TensorProto.DataType``."""

    FLOAT = 1
    UINT8 = 2
    INT8 = 3
    UINT16 = 4
    INT16 = 5
    INT32 = 6
    INT64 = 7
    BOOL = 9
    FLOAT16 = 10
    DOUBLE = 11
    UINT32 = 12
    UINT64 = 13
    BFLOAT16 = 16
    UINT4 = 21
    INT4 = 22


Attribute: TypeAlias = int | float | str | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class OnnxTensor:
    """An initializer; ``raw`` is little-endian, two 4-bit codes a byte with the first one low."""

    name: str
    element_type: ElementType
    shape: tuple[int, ...]
    raw: bytes


@dataclass(frozen=True, slots=True)
class OnnxNode:
    name: str
    op_type: str
    inputs: tuple[str, ...]
    """An empty name is an optional input that is not given."""
    outputs: tuple[str, ...]
    attributes: tuple[tuple[str, Attribute], ...] = ()


@dataclass(frozen=True, slots=True)
class OnnxValue:
    """An input or output of the model; a free size is the name of its symbol."""

    name: str
    element_type: ElementType
    shape: tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class OnnxModel:
    name: str
    nodes: tuple[OnnxNode, ...]
    initializers: tuple[OnnxTensor, ...]
    inputs: tuple[OnnxValue, ...]
    outputs: tuple[OnnxValue, ...]
    producer: str
    producer_version: str
    metadata: tuple[tuple[str, str], ...] = ()


def model_bytes(model: OnnxModel) -> bytes:
    graph = b"".join(
        (
            *(_message(1, _node(node)) for node in model.nodes),
            _text(2, model.name),
            *(_message(5, _tensor(tensor)) for tensor in model.initializers),
            *(_message(11, _value(value)) for value in model.inputs),
            *(_message(12, _value(value)) for value in model.outputs),
        )
    )
    return b"".join(
        (
            _integer(1, IR_VERSION),
            _text(2, model.producer),
            _text(3, model.producer_version),
            _message(7, graph),
            _message(8, _text(1, "") + _integer(2, OPSET)),
            *(_message(14, _text(1, key) + _text(2, text)) for key, text in model.metadata),
        )
    )


def _node(node: OnnxNode) -> bytes:
    return b"".join(
        (
            *(_text(1, name) for name in node.inputs),
            *(_text(2, name) for name in node.outputs),
            _text(3, node.name),
            _text(4, node.op_type),
            *(_message(5, _attribute(name, value)) for name, value in node.attributes),
        )
    )


def _attribute(name: str, value: Attribute) -> bytes:
    match value:
        case int():
            return _text(1, name) + _integer(3, value) + _integer(20, 2)
        case float():
            return _text(1, name) + _key(2, _FLOAT) + struct.pack("<f", value) + _integer(20, 1)
        case str():
            return _text(1, name) + _text(4, value) + _integer(20, 3)
        case tuple():
            return _text(1, name) + b"".join(_integer(8, item) for item in value) + _integer(20, 7)


def _tensor(tensor: OnnxTensor) -> bytes:
    return b"".join(
        (
            *(_integer(1, size) for size in tensor.shape),
            _integer(2, tensor.element_type),
            _text(8, tensor.name),
            _message(9, tensor.raw),
        )
    )


def _value(value: OnnxValue) -> bytes:
    sizes = b"".join(_message(1, _size(size)) for size in value.shape)
    of_tensor = _integer(1, value.element_type) + _message(2, sizes)
    return _text(1, value.name) + _message(2, _message(1, of_tensor))


def _size(size: int | str) -> bytes:
    return _integer(1, size) if isinstance(size, int) else _text(2, size)


def _integer(field: int, value: int) -> bytes:
    return _key(field, _VARINT) + _varint(value & 0xFFFF_FFFF_FFFF_FFFF)


def _text(field: int, value: str) -> bytes:
    return _message(field, value.encode("utf-8"))


def _message(field: int, body: bytes) -> bytes:
    return _key(field, _LENGTH) + _varint(len(body)) + body


def _key(field: int, wire_type: int) -> bytes:
    return _varint(field << 3 | wire_type)


def _varint(value: int) -> bytes:
    """Seven bits a byte, least significant first; the top bit says that more follow."""
    septets: list[int] = []
    while value > 0x7F:
        septets.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*septets, value))
