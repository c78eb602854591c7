"""Activations on levels: the nearest one, as functions that may stand in an ``fx`` graph.

A value goes to the level that ``LevelGrid`` gives it, ties included. ``values`` and ``edges`` are
those of a ``level_table``: the search is one ``bucketize``, which ``torch.export`` takes as it is.
"""

import torch
from torch import Tensor
from torch.nn import functional

from qcompile.policy.number_format import BlockFormat, named
from qcompile.quant.block_scale import block_parts, true_scale
from qcompile.quant.fake_quantize import along, scale_reaching
from qcompile.quant.level_grid import nearest_level


def fake_quantize_levels(
    x: Tensor, scale: Tensor, values: Tensor, edges: Tensor, axis: int | None
) -> Tensor:
    """``x`` at ``scale * values``; ``scale`` is ``[1]``, or ``[x.shape[axis]]``."""
    step = scale.reshape(along(axis, x.dim()))
    return _rounded(x.to(torch.float32), step, values, edges).to(x.dtype)


def fake_quantize_levels_dynamic(
    x: Tensor, values: Tensor, edges: Tensor, signed: bool, per_token: bool
) -> Tensor:
    """``x`` on the levels that just cover it: those of each vector of the last axis, or of all."""
    if x.numel() == 0:
        return x
    wide = x.to(torch.float32)
    size = wide.abs() if signed else wide.clamp(min=0)
    largest = size.amax(dim=-1, keepdim=True) if per_token else size.amax()
    return _rounded(wide, scale_reaching(largest, values[-1]), values, edges).to(x.dtype)


def fake_quantize_blocks(x: Tensor, values: Tensor, edges: Tensor, name: str, axis: int) -> Tensor:
    """``x`` in the block format ``name``: neighbours along ``axis`` share the scale of the largest.

    The last block of a row may be shorter; ``nvfp4`` has one more scale of all of ``x``. A block
    with a number that is not finite has no scale, and becomes NaN.
    """
    if x.numel() == 0:
        return x
    number = named(name)
    assert isinstance(number, BlockFormat)
    rows = x.to(torch.float32).movedim(axis, -1)
    length = rows.shape[-1]
    blocks = functional.pad(rows, (0, -length % number.block)).unflatten(-1, (-1, number.block))
    largest = blocks.abs().amax(-1, keepdim=True)
    parts = block_parts(largest, number)
    scale = true_scale(parts["scale"], parts.get("tensor_scale"))
    # where a scale is zero so is the block, or next to nothing
    found = _rounded(blocks, torch.where(scale == 0, 1, scale), values, edges) * (scale != 0)
    found = torch.where(largest.isfinite(), found, torch.nan)
    return found.flatten(-2)[..., :length].movedim(-1, axis).to(x.dtype)


def _rounded(x: Tensor, scale: Tensor, values: Tensor, edges: Tensor) -> Tensor:
    return nearest_level(x / scale, values, edges) * scale
