"""What stands in a lowered graph beside the operations of oneDNN."""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from qcompile.compat.onednn_operations import Operation
from qcompile.compat.quantize_to_bytes import BYTE, quantize_to_bytes
from qcompile.compat.weight_only_operations import multiply_int4, multiply_int8
from qcompile.quant.fake_quantize import RunTimeRange, covering_now

SLICE = 1 << 20
"""Numbers of a weight that are unpacked at a time: 4 MB in float32."""
FEW_CHANNELS = 4


def quantize(x: Tensor, scale: float, zero_point: int, top: int, for_conv: bool) -> Tensor:
    """``x`` as uint8 codes in ``[0, top]``; images of a convolution with channels last.

    So oneDNN wants them, and of a linear layer the rows, whatever number of axes they are on.
    """
    codes = quantize_to_bytes(x, scale, zero_point)
    if top < BYTE[1]:
        codes = codes.clamp_max_(top)
    return _channels_last(codes) if for_conv and codes.dim() == 4 else codes


def _channels_last(codes: Tensor) -> Tensor:
    """Channel by channel where they are few: ``contiguous`` is the slower way for these."""
    is_copied = not codes.is_contiguous(memory_format=torch.channels_last)
    if is_copied and codes.shape[1] <= FEW_CHANNELS:
        return torch.stack(codes.unbind(1), -1).permute(0, 3, 1, 2)
    return codes.contiguous(memory_format=torch.channels_last)


def pad_codes(codes: Tensor, amounts: tuple[int, ...], zero_point: int) -> Tensor:
    """Codes of a float tensor that was padded with zeros."""
    return functional.pad(codes, amounts, value=zero_point)


def max_pool_codes(
    codes: Tensor,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> Tensor:
    """The largest code of each window: along the height, then along the width.

    The lowest code is what is padded with, so it never wins. ``F.max_pool2d`` counts in the type
    of its input, and takes no images of bytes for that reason.
    """
    height, width = padding
    if height or width:
        codes = functional.pad(codes, (width, width, height, height))
    for axis, *sizes in zip((-2, -1), kernel, stride, dilation, strict=True):
        codes = _largest(codes.movedim(axis, -1), *sizes).movedim(-1, axis)
    return codes.contiguous(memory_format=torch.channels_last) if codes.dim() == 4 else codes


def _largest(codes: Tensor, kernel: int, stride: int, dilation: int) -> Tensor:
    """Of each window along the last axis."""
    positions = codes.shape[-1] - dilation * (kernel - 1)
    parts = [
        codes[..., place * dilation : place * dilation + positions : stride]
        for place in range(kernel)
    ]
    largest = parts[0]
    for number, part in enumerate(parts[1:]):
        # the first result is memory of its own
        largest = torch.maximum(largest, part, out=largest if number else None)
    return largest


def rows_twice(codes: Tensor) -> Tensor:
    """Each row of the images twice, one behind the other."""
    count, channels, height, width = codes.shape
    by_rows = codes.permute(0, 2, 3, 1).reshape(count, height, 1, width * channels)
    both = by_rows.expand(-1, -1, 2, -1).reshape(count, 2 * height, width, channels)
    return both.permute(0, 3, 1, 2)


def channels_twice(codes: Tensor) -> Tensor:
    """All channels of the images, and all of them again."""
    return torch.cat((codes, codes), 1)


def with_rows_of(product: Tensor, x: Tensor) -> Tensor:
    """``product`` with the axes of ``x``: oneDNN forgets them where there are no rows (2.13)."""
    if product.numel() or product.dim() == x.dim():
        return product
    return product.new_empty(*x.shape[:-1], product.shape[-1])


def packed_for(codes: Tensor, least: tuple[int, ...], *packed: Tensor) -> Tensor:
    """The weight as oneDNN wants it for so many images: from ``least`` on, which ascends."""
    return packed[max(0, bisect_right(least, codes.shape[0]) - 1)]


def more_columns_than_one(
    codes: Tensor, kernel: tuple[int, int], conv: tuple[tuple[int, ...], ...]
) -> Tensor:
    """``codes`` of images whose size the graph does not know, in front of a convolution.

    ``conv`` is its stride, padding and dilation. Raises ``ValueError`` for what
    ``compat.onednn_defects`` says is computed wrongly here.
    """
    axes = zip(codes.shape[-2:], kernel, *conv, strict=True)
    rows, columns = ((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in axes)
    if columns == 1 and rows > 1:
        size = "x".join(map(str, codes.shape[-2:]))
        raise ValueError(
            f"on this processor oneDNN miscounts results that are one pixel wide, of images {size}:"
            " load the artifact for `simulate`, or give it wider images"
        )
    return codes


def add_outer(product: Tensor, outer: Tensor) -> Tensor:
    """Add ``outer [out]`` times the last number of ``product [..., out + 1]`` to the others."""
    return torch.addcmul(product[..., :-1], product[..., -1:], outer)


def dynamic_linear(
    x: Tensor,
    packed: Tensor,
    scale: Tensor,
    column_sums: Tensor,
    outer: Tensor | None,
    bias: Tensor | None,
    ranges: RunTimeRange,
    multiply: Operation,
) -> Tensor:
    """An integer product of ``x`` on the grid that covers it, or each of its rows: ``ranges``.

    ``column_sums`` are those of the weight: what a zero point is multiplied by. With ``outer``
    the weight has one output more, see ``add_outer``. ``multiply`` is oneDNN's product.
    """
    if x.numel() == 0:
        return x.new_zeros(*x.shape[:-1], scale.numel() - (outer is not None))
    found = codes_now(x, ranges)
    zeros = torch.zeros(scale.numel(), dtype=torch.int64)
    tail = (1.0, 0, torch.float32, "none", [], "")
    given = (found.codes.to(torch.uint8), 1.0, found.middle)
    product = cast("Tensor", multiply(*given, packed, scale, zeros, None, *tail))
    return finished_now(product, found, column_sums, outer, bias)


@dataclass(frozen=True, slots=True, eq=False)
class CodesNow:
    """``x`` is ``(codes - middle - offset) * step``."""

    codes: Tensor
    """float32, from zero on."""
    middle: int
    """The code of zero where it is known; else 0."""
    offset: Tensor | None
    """The code of zero that ``x`` brought along: of all, or of each row."""
    step: Tensor


def codes_now(x: Tensor, ranges: RunTimeRange) -> CodesNow:
    qmin, qmax, symmetric, *_ = ranges
    grid = covering_now(x, *ranges)
    offset = grid.zero_point - qmin
    codes = (x / grid.scale).round_().add_(offset).clamp_(0, qmax - qmin)
    return CodesNow(codes, -qmin if symmetric else 0, None if symmetric else offset, grid.scale)


def finished_now(
    product: Tensor,
    x: CodesNow,
    column_sums: Tensor,
    outer: Tensor | None,
    bias: Tensor | None,
) -> Tensor:
    """What is behind the product of ``x.codes - x.middle``, in place."""
    if x.offset is not None:
        product = product.sub_(x.offset * column_sums)
    if outer is not None:
        product = add_outer(product, outer)
    product = product.mul_(x.step)
    return product if bias is None else product.add_(bias)


def int4_linear(
    x: Tensor,
    packed: Tensor,
    group: int,
    scales_and_zeros: Tensor,
    weight: tuple[Tensor, Tensor, Tensor],
    bias: Tensor | None,
    few_rows: int,
    wide: torch.dtype,
) -> Tensor:
    """Few rows by packed 4-bit codes in bfloat16, many by a weight of type ``wide``.

    ``weight`` is codes ``[in / 2, out]``, row ``i`` in the low half of a byte and ``i + in / 2`` in
    the high one, and scale and offset ``[groups, 1, out]``.
    """
    rows = x.reshape(-1, x.shape[-1])
    if rows.shape[0] > few_rows:
        made = _by_slices(rows, weight, _two_in_a_byte, wide, axis=-1)
    else:
        made = multiply_int4(rows.to(torch.bfloat16), packed, group, scales_and_zeros)
    return _finished(x, made, bias)


def _two_in_a_byte(codes: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    """``codes * scale + offset``; scales along the rows in memory, so that whole rows are read."""
    half, outputs = codes.shape
    wide = scale.new_empty(2 * half, outputs)
    wide[:half], wide[half:] = codes & 15, codes >> 4
    by_group = wide.view(scale.shape[0], -1, outputs)
    return torch.addcmul(offset, by_group, scale, out=by_group).view(2 * half, outputs)


def int8_linear(
    x: Tensor,
    codes: Tensor,
    scale: Tensor,
    narrow_scale: Tensor,
    bias: Tensor | None,
    few_rows: int,
    wide: torch.dtype,
) -> Tensor:
    """Few rows by 8-bit codes in bfloat16, many by a weight of type ``wide``."""
    rows = x.reshape(-1, x.shape[-1])
    if rows.shape[0] > few_rows:
        made = _by_slices(rows, (codes, scale), _one_in_a_byte, wide, axis=0)
    else:
        made = multiply_int8(rows.to(torch.bfloat16), codes, narrow_scale)
    return _finished(x, made, bias)


def _one_in_a_byte(codes: Tensor, scale: Tensor) -> Tensor:
    return codes.to(torch.float32).mul_(scale[:, None]).t()


def _by_slices(
    rows: Tensor,
    weight: tuple[Tensor, ...],
    unpack: Callable[..., Tensor],
    dtype: torch.dtype,
    axis: int,
) -> Tensor:
    """Unpack the weight for a slice of the outputs, on ``axis``, at a time, as ``[in, outputs]``.

    A slice stays in the cache, and the whole, which may be a table of all words, never is in
    memory.
    """
    rows = rows.to(dtype)
    outputs = max(1, SLICE // rows.shape[1])
    slices = zip(*(part.split(outputs, axis) for part in weight), strict=True)
    made = [rows @ unpack(*parts).to(dtype) for parts in slices]
    return torch.cat(made, -1)


def _finished(x: Tensor, made: Tensor, bias: Tensor | None) -> Tensor:
    product = made.to(x.dtype).reshape(*x.shape[:-1], made.shape[-1])
    return product if bias is None else product.add_(bias)
