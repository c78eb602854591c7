"""Reference semantics of a quantized model, as functions that may stand in an ``fx`` graph.

The calibration sweep and the reference graph of an artifact call these same functions, so that both
give the same bits; the simulation sums the codes of integer layers instead. Scales are float32 as
on disk; zero points are uint8, offset by ``qmin`` like stored codes, or ``None`` when the grid is
symmetric. Arithmetic is in float32, whatever the dtype of the input.
"""

from math import prod
from typing import TypeAlias

import torch
from torch import Tensor

from qcompile.quant.grid import Grid, covering, smallest_scale
from qcompile.quant.grouping import grouping_of_scale
from qcompile.quant.packing import unpack

E4M3_MAX = 448.0


def fake_quantize(
    x: Tensor, scale: Tensor, zero_point: Tensor | None, qmin: int, qmax: int, axis: int | None
) -> Tensor:
    """``x`` on a static grid; ``scale`` is ``[1]``, or ``[x.shape[axis]]``."""
    shape = along(axis, x.dim())
    return stored_grid(scale, zero_point, qmin, qmax, shape).fake_quantize(x)


RunTimeRange: TypeAlias = tuple[int, int, bool, bool, float]
"""What ``covering_now`` takes beside numbers."""


def fake_quantize_dynamic(
    x: Tensor, qmin: int, qmax: int, symmetric: bool, per_token: bool, share: float = 1.0
) -> Tensor:
    """``x`` on the grid of ``covering_now``."""
    if x.numel() == 0:
        return x
    wide = x.to(torch.float32)
    return covering_now(wide, qmin, qmax, symmetric, per_token, share).fake_quantize(x)


def covering_now(
    x: Tensor, qmin: int, qmax: int, symmetric: bool, per_token: bool, share: float
) -> Grid:
    """That covers a share of what is in ``x``: one for each vector of the last axis, or for all."""
    low, high = x.aminmax(dim=-1, keepdim=True) if per_token else x.aminmax()
    if share != 1:
        low, high = low * share, high * share
    return covering(low, high, qmin, qmax, symmetric=symmetric)


def fake_quantize_e4m3(x: Tensor, per_token: bool) -> Tensor:
    """``x`` as small floats of the scale that makes the largest of them 448: ``e4m3_scale``."""
    if x.numel() == 0:
        return x
    wide = x.to(torch.float32)
    scale = e4m3_scale(wide, per_token)
    return ((wide / scale).to(torch.float8_e4m3fn).to(torch.float32) * scale).to(x.dtype)


def e4m3_scale(x: Tensor, per_token: bool) -> Tensor:
    """One for each vector of the last axis, or for all; 1 where all is zero."""
    largest = x.abs().amax(dim=-1, keepdim=True) if per_token else x.abs().amax()
    return scale_reaching(largest, E4M3_MAX)


def scale_reaching(largest: Tensor, end: Tensor | float) -> Tensor:
    """That at which ``end`` stands for ``largest``; 1 where that is zero."""
    scale = (largest / end).clamp(min=smallest_scale(largest))
    return torch.where(largest == 0, torch.ones_like(scale), scale)


def along(axis: int | None, rank: int) -> tuple[int, ...]:
    """The shape in which one parameter an index of ``axis``, or one in all, meets a tensor."""
    shape = [1] * rank
    if axis is not None:
        shape[axis] = -1
    return tuple(shape)


def dequantize_weight(
    packed: Tensor,
    scale: Tensor,
    zero_point: Tensor | None,
    bits: int,
    qmin: int,
    shape: tuple[int, ...],
    output_axis: int,
    dtype: torch.dtype,
) -> Tensor:
    """The weight behind packed codes; the shape of ``scale`` tells the granularity.

    ``output_axis`` is the axis of ``shape`` that a per-channel or per-group scale follows.
    """
    view = grouping_of_scale(tuple(scale.shape), tuple(shape), output_axis)
    per_group = (view.outer, view.groups, 1)
    grid = stored_grid(scale, zero_point, qmin, qmin + (1 << bits) - 1, per_group)
    codes = unpack(packed, bits, prod(shape)).to(torch.int16) + qmin
    return view.restore(grid.dequantize(view.view(codes.reshape(shape)))).to(dtype)


def stored_grid(
    scale: Tensor, zero_point: Tensor | None, qmin: int, qmax: int, shape: tuple[int, ...]
) -> Grid:
    """The grid of tensors as they lie on disk, its parameters viewed as ``shape``."""
    scale = scale.reshape(shape)
    if zero_point is None:
        return Grid(scale, torch.zeros_like(scale), qmin, qmax)
    return Grid(scale, zero_point.reshape(shape).to(scale.dtype) + qmin, qmin, qmax)


def stored_zero_point(grid: Grid) -> Tensor:
    """The zero point as it lies on disk."""
    return (grid.zero_point - grid.qmin).to(torch.uint8)
