"""Products of codes in float arithmetic that is exact: what stands in the graph of a simulation.

A sum of whole numbers whose size stays below ``LARGEST`` has one value in float32, in whatever
order it is taken. Longer ones are taken in ``slices`` of the inputs, which are added in float64.
What comes behind the sum is the sequence of float32 operations that oneDNN has, so that its kernels
give the same bits.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from qcompile.emit.lower.kernels import add_outer, codes_now, finished_now
from qcompile.quant.fake_quantize import RunTimeRange

LARGEST = 1 << 24
"""Up to here all whole numbers are float32 numbers."""
INPUTS = 1
"""Axis of a weight; that of images is ``CHANNELS``."""
CHANNELS = -3


def exact_linear(
    codes: Tensor,
    zero_point: int,
    weight: Tensor,
    factor: Tensor,
    bias: Tensor | None,
    outer: Tensor | None,
    slices: int,
) -> Tensor:
    """``(codes - zero_point) @ weight.T * factor + bias``.

    ``weight`` ``[out, in]`` are codes around zero. With ``outer`` there is one factor more, of the
    sum of the codes: see ``add_outer``.
    """
    sums = _linear(_around(codes, zero_point), weight, slices, with_own=outer is not None)
    product = scaled(sums, factor, bias)
    return product if outer is None else add_outer(product, outer)


def exact_conv2d(
    codes: Tensor,
    zero_point: int,
    weight: Tensor,
    factor: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    slices: int,
) -> Tensor:
    """The same for images, without the last."""

    def multiply(x: Tensor, w: Tensor) -> Tensor:
        if x.shape[CHANNELS] == 1:  # of which torch cannot tell the layout, and oneDNN is misled
            x = x.clone(memory_format=torch.contiguous_format)
        made = functional.conv2d(x, w, None, stride, padding, dilation, groups)
        return made.round_()  # an algorithm that transforms images gives numbers next to whole ones

    sums = _in_slices(multiply, _around(codes, zero_point), weight, slices, CHANNELS)
    of_pixels = (-1, 1, 1)
    added = None if bias is None else bias.view(of_pixels)
    return scaled(sums, factor.view(of_pixels), added)


def exact_dynamic_linear(
    x: Tensor,
    weight: Tensor,
    factor: Tensor,
    column_sums: Tensor,
    outer: Tensor | None,
    bias: Tensor | None,
    ranges: RunTimeRange,
    slices: int,
) -> Tensor:
    """``x`` on the grid that covers it, or each of its rows, times ``weight``: ``dynamic_linear``.

    ``column_sums`` are those of ``weight`` times ``factor``.
    """
    if x.numel() == 0:
        return x.new_zeros(*x.shape[:-1], weight.shape[0])
    found = codes_now(x, ranges)
    codes = _around(found.codes, found.middle)
    sums = _linear(codes, weight, slices, with_own=outer is not None)
    product = sums.to(torch.float32).mul_(factor)
    return finished_now(product, found, column_sums, outer, bias)


def scaled(sums: Tensor, factor: Tensor, bias: Tensor | None) -> Tensor:
    """What comes behind whole sums, as oneDNN does it."""
    product = sums.to(torch.float32).mul_(factor)
    return product if bias is None else product.add_(bias)


def _around(codes: Tensor, zero_point: int) -> Tensor:
    return codes - zero_point if zero_point else codes


def _linear(codes: Tensor, weight: Tensor, slices: int, *, with_own: bool) -> Tensor:
    sums = _in_slices(functional.linear, codes, weight, slices, -1)
    if not with_own:
        return sums
    own = codes.sum(-1, keepdim=True, dtype=torch.float64).to(sums.dtype)
    return torch.cat((sums, own), -1)


def _in_slices(
    multiply: Callable[[Tensor, Tensor], Tensor],
    codes: Tensor,
    weight: Tensor,
    slices: int,
    axis: int,
) -> Tensor:
    """``axis`` is that of the inputs in ``codes``."""
    if slices == 1:
        return multiply(codes, weight)
    first, *others = zip(codes.chunk(slices, axis), weight.chunk(slices, INPUTS), strict=True)
    sums = multiply(*first).to(torch.float64)
    for pair in others:
        sums += multiply(*pair)
    return sums
