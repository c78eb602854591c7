"""An ONNX graph in the making: nodes and initializers under names that are each used once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from types import MappingProxyType
from typing import TypeAlias

import torch
from torch import Tensor

from qcompile.interop.onnx_file import Attribute, ElementType, OnnxNode, OnnxTensor

ELEMENT_TYPES: Mapping[str, ElementType] = MappingProxyType(
    {
        "float32": ElementType.FLOAT,
        "float16": ElementType.FLOAT16,
        "bfloat16": ElementType.BFLOAT16,
        "float64": ElementType.DOUBLE,
        "int8": ElementType.INT8,
        "uint8": ElementType.UINT8,
        "int16": ElementType.INT16,
        "uint16": ElementType.UINT16,
        "int32": ElementType.INT32,
        "uint32": ElementType.UINT32,
        "int64": ElementType.INT64,
        "uint64": ElementType.UINT64,
        "bool": ElementType.BOOL,
    }
)
"""Torch's names of the dtypes that ONNX has."""

END = (1 << 63) - 1
"""What ONNX takes for the end of an axis."""
FOUR_BITS = frozenset({ElementType.INT4, ElementType.UINT4})
FLOAT_DTYPES = frozenset({"float16", "bfloat16", "float32", "float64"})


class UnsupportedCallError(Exception):
    """A call that no row expresses; the text continues "the ONNX export cannot express"."""


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor of the ONNX graph; a size known at run time only is one of rank 0."""

    name: str
    dtype: str
    """Torch's name."""
    shape: tuple[int | str, ...]

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def is_float(self) -> bool:
        return self.dtype in FLOAT_DTYPES

    def axis(self, dim: int) -> int:
        return dim % max(self.rank, 1)

    def size(self, dim: int) -> int:
        size = self.shape[dim]
        if isinstance(size, str):
            raise UnsupportedCallError("a free size where a number is needed")
        return size


Size: TypeAlias = int | Value
Operand: TypeAlias = Value | str | None


@dataclass(slots=True)
class OnnxGraph:
    nodes: list[OnnxNode] = field(default_factory=list[OnnxNode])
    initializers: dict[str, OnnxTensor] = field(default_factory=dict[str, OnnxTensor])
    names: set[str] = field(default_factory=set[str])
    scope: str = ""
    """Name of the node that is being written: what it makes is named after it."""

    def call(self, op_type: str, *inputs: Operand, **attributes: Attribute) -> str:
        (output,) = self.call_many(op_type, 1, *inputs, **attributes)
        return output

    def call_many(
        self, op_type: str, outputs: int, *inputs: Operand, **attributes: Attribute
    ) -> tuple[str, ...]:
        names = tuple(self.unique(self.scope) for _ in range(outputs))
        given = [item.name if isinstance(item, Value) else item or "" for item in inputs]
        while given and not given[-1]:
            given.pop()
        node = OnnxNode(names[0], op_type, tuple(given), names, tuple(sorted(attributes.items())))
        self.nodes.append(node)
        return names

    def constant(self, tensor: Tensor, name: str) -> Value:
        """An initializer with the values of ``tensor``, whatever its memory layout."""
        dtype = str(tensor.dtype).removeprefix("torch.")
        if dtype not in ELEMENT_TYPES:
            raise UnsupportedCallError(f"a tensor of {dtype}")
        plain = tensor.detach().cpu().contiguous().reshape(-1)
        raw = plain.view(torch.uint8).numpy().tobytes() if plain.numel() else b""
        shape = tuple(tensor.shape)
        return Value(self.initializer(name, ELEMENT_TYPES[dtype], shape, raw), dtype, shape)

    def initializer(
        self, name: str, element_type: ElementType, shape: tuple[int, ...], raw: bytes
    ) -> str:
        unique = self.unique(name)
        self.initializers[unique] = OnnxTensor(unique, element_type, shape, raw)
        return unique

    def integers(self, values: Sequence[int]) -> str:
        """A vector of int64: axes, shapes and bounds."""
        return self.constant(torch.tensor(list(values), dtype=torch.int64), "ints").name

    def scalar(self, value: float | bool, dtype: str) -> Value:
        return self.constant(torch.tensor(value, dtype=getattr(torch, dtype)), "scalar")

    def sizes(self, values: Sequence[Size]) -> str:
        """A vector of int64 of which some elements are known at run time only."""
        if all(isinstance(value, int) for value in values):
            return self.integers([value for value in values if isinstance(value, int)])
        pieces = [
            self.integers([value])
            if isinstance(value, int)
            else self.call("Reshape", value, self.integers([1]))
            for value in values
        ]
        return self.call("Concat", *pieces, axis=0)

    def cast(self, operand: Operand, dtype: str) -> str:
        return self.call("Cast", operand, to=int(ELEMENT_TYPES[dtype]))

    def unique(self, name: str) -> str:
        found = name
        for number in count(1):
            if found not in self.names:
                break
            found = f"{name}.{number}"
        self.names.add(found)
        return found
