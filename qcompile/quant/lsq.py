"""Learned step size for activations, with QDrop's random mix of quantized and float elements.

Esser et al., 1902.08153, equations 1 to 3 and section 2.2 (gradient scale ``1 / sqrt(N Q_P)``);
Wei et al., 2203.05740, equation 8 (each element is quantized with probability ``p``).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from qcompile.quant.level_grid import nearest_level


class LearnedStep(torch.autograd.Function):
    """Fake quantization of ``x`` whose gradient reaches a scalar (or broadcastable) ``scale``.

    ``d x_hat / d scale`` is ``round(x / s) - x / s`` inside the range and the clipped code (zero
    point taken off) outside; ``d x_hat / d x`` is 1 inside and 0 outside. Where ``mask`` is False
    the element stays in float: its gradient passes, the scale gets none.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: Tensor,
        scale: Tensor,
        zero_point: Tensor,
        limits: tuple[int, int],
        mask: Tensor | None,
        gradient_scale: float,
    ) -> Tensor:
        ratio = x / scale
        low, high = limits
        codes = (torch.round(ratio) + zero_point).clamp(low, high)
        position = ratio + zero_point
        inside = (position > low) & (position < high)
        found = _Found(ratio, codes - zero_point, inside)
        return _mixed(ctx, x, scale, found, mask, gradient_scale)

    @staticmethod
    def backward(ctx: FunctionCtx, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        return (*_gradients(ctx, *grad_outputs), None, None, None, None)


class LearnedLevels(torch.autograd.Function):
    """The same on any levels, which stand for the codes: ``values`` and ``edges`` of a table."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: Tensor,
        scale: Tensor,
        values: Tensor,
        edges: Tensor,
        mask: Tensor | None,
        gradient_scale: float,
    ) -> Tensor:
        ratio = x / scale
        inside = (ratio > values[0]) & (ratio < values[-1])
        found = _Found(ratio, nearest_level(ratio, values, edges), inside)
        return _mixed(ctx, x, scale, found, mask, gradient_scale)

    @staticmethod
    def backward(ctx: FunctionCtx, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        return (*_gradients(ctx, *grad_outputs), None, None, None, None)


class _Found(NamedTuple):
    """Of each element, in units of the scale: where it is, and the number it goes to."""

    ratio: Tensor
    steps: Tensor
    inside: Tensor


def _mixed(
    ctx: FunctionCtx,
    x: Tensor,
    scale: Tensor,
    found: _Found,
    mask: Tensor | None,
    gradient_scale: float,
) -> Tensor:
    ratio, steps, inside = found
    slope = torch.where(inside, steps - ratio, steps)
    if mask is not None:
        slope = slope * mask
        inside = inside | ~mask
    ctx.save_for_backward(slope, inside, scale)
    ctx.gradient_scale = gradient_scale  # pyright: ignore[reportAttributeAccessIssue]
    value = steps * scale
    return value if mask is None else torch.where(mask, value, x)


def _gradients(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor]:
    slope, inside, scale = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
    factor: float = ctx.gradient_scale  # pyright: ignore[reportAttributeAccessIssue]
    return grad * inside, (grad * slope).sum_to_size(scale.shape) * factor


def gradient_scale(elements: int, positive_codes: int) -> float:
    """LSQ's ``1 / sqrt(N Q_P)``: keeps the step of the scale commensurate with that of weights."""
    return 1 / math.sqrt(max(elements * positive_codes, 1))


def drop_mask(x: Tensor, keep_quantized: float, generator: torch.Generator) -> Tensor | None:
    """True where an element is quantized; ``None`` stands for all (probability 1)."""
    if keep_quantized >= 1:
        return None
    draw = torch.rand(x.shape, generator=generator, device=x.device)
    return draw < keep_quantized
