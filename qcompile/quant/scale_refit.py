"""Least-squares scale for fixed codes.

For codes ``k`` (zero point taken off) the objective is a parabola in the row's scale with minimum
``s* = (k G w^T) / (k G k^T)``; a step of ``-(k G (w_hat - w)^T) / (k G k^T)`` from any scale leads
there.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from qcompile.quant.quadratic import Quadratic


@dataclass(frozen=True, slots=True, eq=False)
class Refit:
    scale: Tensor
    """``[groups, rows, k]``"""
    residual: Tensor
    """``(values - target) @ gram`` with this scale, ``[groups, rows, k]``."""


def refit_scale(
    problem: Quadratic, codes: Tensor, size: int | None = None, residual: Tensor | None = None
) -> Refit:
    """One least-squares pass over the scales, one value for each ``size``.

    ``size`` neighbouring columns of a row share a scale; ``None``: the whole row. Pieces of a row
    are fitted one after the other, each given the others, so that no pass raises the objective. A
    piece keeps its own where ``k G k^T`` is zero or the best scale is not positive. ``residual`` is
    that of the codes with the problem's scale, where it is at hand.
    """
    steps = problem.steps(codes, problem.zero_point)
    scale = problem.scale.expand_as(problem.target).clone()
    width = codes.shape[-1]
    residual = problem.residual(codes) if residual is None else residual.clone()
    for start in range(0, width, size or width):
        piece = slice(start, start + (size or width))
        own = steps[:, :, piece]
        weighted = own @ problem.gram[:, piece]
        bottom = (weighted[:, :, piece] * own).sum(-1, keepdim=True)
        slope = (residual[:, :, piece] * own).sum(-1, keepdim=True)
        change = -slope / torch.where(bottom > 0, bottom, torch.inf)
        positive = scale[:, :, piece] + change > 0
        change = torch.where(positive, change, 0.0)
        scale[:, :, piece] += change
        residual += change[..., :1] * weighted
    return Refit(scale, residual)
