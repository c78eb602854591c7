"""Tensors that are made from numbers and sizes, as ONNX nodes; sizes may be free."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch

from qcompile.interop.onnx_graph import ELEMENT_TYPES, OnnxGraph, Size, UnsupportedCallError, Value
from qcompile.interop.onnx_shapes import flat

Number: TypeAlias = int | float | Value
Sizes: TypeAlias = Size | Sequence[Size]
RANGES = frozenset({"float32", "float64", "int16", "int32", "int64"})
"""Dtypes of which ONNX has ranges."""


def arange(
    g: OnnxGraph,
    start: Number,
    end: Number | None = None,
    step: Number = 1,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> Value | str:
    """With one bound it is the end.

    A range of numbers is what torch makes of them: ONNX counts floats in their own precision.
    """
    first, last = (0, start) if end is None else (start, end)
    if not any(isinstance(bound, Value) for bound in (first, last, step)):
        return g.constant(torch.arange(first, last, step, dtype=dtype), g.scope)  # pyright: ignore[reportArgumentType, reportCallIssue]
    if any(isinstance(bound, float) for bound in (first, last, step)):
        raise UnsupportedCallError("a range of floats up to a free size")
    name = "int64" if dtype is None else _dtype_name(dtype)
    counted = name if name in RANGES else "int64"
    made = g.call("Range", *(_scalar(g, bound, counted) for bound in (first, last, step)))
    return made if counted == name else g.cast(made, name)


def filled(value: int) -> Callable[..., str]:
    """``ones`` and ``zeros``."""

    def row(
        g: OnnxGraph,
        *sizes: Sizes,
        size: Sizes = (),
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
    ) -> str:
        name = "float32" if dtype is None else _dtype_name(dtype)
        return g.call("Expand", g.scalar(value, name), g.sizes(flat((*sizes, size))))

    return row


def new_filled(value: int) -> Callable[..., str]:
    """``new_ones`` and ``new_zeros``, of the input's dtype unless another is asked for."""

    def row(
        g: OnnxGraph,
        input: Value,
        *sizes: Sizes,
        size: Sizes = (),
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
    ) -> str:
        name = input.dtype if dtype is None else _dtype_name(dtype)
        return g.call("Expand", g.scalar(value, name), g.sizes(flat((*sizes, size))))

    return row


def _scalar(g: OnnxGraph, bound: Number, dtype: str) -> Value | str:
    if not isinstance(bound, Value):
        return g.scalar(bound, dtype)
    if bound.rank:
        raise UnsupportedCallError("a range whose bound is not a number")
    return bound if bound.dtype == dtype else g.cast(bound, dtype)


def _dtype_name(dtype: torch.dtype) -> str:
    name = str(dtype).removeprefix("torch.")
    if name not in ELEMENT_TYPES:
        raise UnsupportedCallError(f"a tensor of {name}")
    return name
