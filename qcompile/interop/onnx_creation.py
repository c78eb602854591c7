"""Tensors that are made from numbers and sizes, as ONNX nodes; sizes may be free."""

from collections.abc import Callable, Sequence

import torch

from qcompile.interop.onnx_graph import OnnxGraph, Size, UnsupportedCallError, Value
from qcompile.interop.onnx_shapes import flat

Number = int | float | Value


def arange(
    g: OnnxGraph,
    start: Number,
    end: Number | None = None,
    step: Number = 1,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
    **ignored: object,
) -> str:
    """With one bound it is the end. Floats only where a dtype or a bound says so."""
    first, last = (0, start) if end is None else (start, end)
    bounds = (first, last, step)
    name = _dtype_name(dtype) if dtype is not None else None
    if name is None:
        name = "float32" if any(isinstance(bound, float) for bound in bounds) else "int64"
    return g.call("Range", *(_scalar(g, bound, name) for bound in bounds))


def filled(value: int) -> Callable[..., str]:
    """``ones`` and ``zeros``."""

    def row(
        g: OnnxGraph,
        *size: Size | Sequence[Size],
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
        **ignored: object,
    ) -> str:
        name = "float32" if dtype is None else _dtype_name(dtype)
        return g.call("Expand", g.scalar(value, name), g.sizes(flat(size)))

    return row


def new_filled(value: int) -> Callable[..., str]:
    """``new_ones`` and ``new_zeros``, of the input's dtype unless another is asked for."""

    def row(
        g: OnnxGraph,
        input: Value,
        *size: Size | Sequence[Size],
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
        **ignored: object,
    ) -> str:
        name = input.dtype if dtype is None else _dtype_name(dtype)
        return g.call("Expand", g.scalar(value, name), g.sizes(flat(size)))

    return row


def _scalar(g: OnnxGraph, bound: Number, dtype: str) -> Value | str:
    if not isinstance(bound, Value):
        return g.scalar(bound, dtype)
    if bound.rank:
        raise UnsupportedCallError("a range whose bound is not a number")
    return bound if bound.dtype == dtype else g.cast(bound, dtype)


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
