"""``dequantize_weight`` and ``dequantize_levels`` in few operations.

A loop over the eight places of a word is the fastest way to unpack once, at load time. Recorded by
``torch.export`` it is a hundred nodes a weight, and the text of the graph outweighs the codes.
These functions give the same bits in a dozen, at the price of a larger intermediate.
"""

from math import prod

import torch
from torch import Tensor

from qcompile.quant import level_weight
from qcompile.quant.grouping import grouping_of_scale

WORD = 8
"""Codes in ``bits`` whole bytes."""


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
    """As ``quant.fake_quantize.dequantize_weight``."""
    view = grouping_of_scale(tuple(scale.shape), tuple(shape), output_axis)
    codes = view.view(unpack(packed, bits, prod(shape)).reshape(shape)).to(scale.dtype)
    steps = scale.reshape(view.outer, view.groups, 1)
    if zero_point is None:
        centred = codes + qmin
    else:
        centred = codes - zero_point.reshape(view.outer, view.groups, 1)
    return view.restore(centred * steps).to(dtype)


def dequantize_levels(
    terms: tuple[level_weight.StoredTerm, ...],
    shape: tuple[int, ...],
    output_axis: int,
    dtype: torch.dtype,
) -> Tensor:
    """As ``quant.level_weight.dequantize_levels``."""
    return level_weight.dequantize_levels(terms, shape, output_axis, dtype, unpack)


def unpack(packed: Tensor, bits: int, count: int) -> Tensor:
    """As ``quant.packing.unpack``, but int64 for widths that do not divide a byte."""
    if bits == WORD:
        return packed
    if WORD % bits == 0:
        shifts = torch.arange(0, WORD, bits, dtype=torch.uint8, device=packed.device)
        return ((packed[:, None] >> shifts) & ((1 << bits) - 1)).reshape(-1)[:count]
    stream = torch.nn.functional.pad(packed, (0, -packed.numel() % bits)).view(-1, bits)
    bytes_at = torch.arange(0, WORD * bits, WORD, device=packed.device)
    words = (stream.to(torch.int64) << bytes_at).sum(1)
    shifts = torch.arange(0, WORD * bits, bits, device=packed.device)
    return ((words[:, None] >> shifts) & ((1 << bits) - 1)).reshape(-1)[:count]
