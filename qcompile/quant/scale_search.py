"""The scale with which rounding to nearest costs a layer's output least.

A range search looks at the weight alone; here the error is that of the output, by the Gram matrix
of the layer's inputs. (The baseline that a solver has to beat: most of what a solver gains over a
range search, a better scale gains too.)
"""

from dataclasses import replace

import torch
from torch import Tensor

from qcompile.quant.quadratic import Quadratic

COARSE = tuple(step / 20 for step in range(6, 49))
"""0.30, 0.35, .. 2.40 of the present scale."""
FINE = tuple(step / 100 for step in (-4, -3, -2, -1, 1, 2, 3, 4))
"""Around the best of these."""


def search_scale(problem: Quadratic, size: int | None = None) -> Tensor:
    """The scale ``[groups, rows, k]``, one value for each ``size`` columns of a row (or for all).

    Pieces of a row are searched one after the other, each given the others, and keep their own
    scale unless another is better: the objective of nearest rounding never rises.
    """
    scale = problem.scale.expand_as(problem.target).clone()
    zero_point = problem.zero_point.expand_as(problem.target)
    width = problem.target.shape[-1]
    off = problem.values(problem.nearest()) - problem.target
    residual = off @ problem.gram
    for start in range(0, width, size or width):
        piece = slice(start, start + (size or width))
        own = replace(
            problem,
            target=problem.target[:, :, piece],
            gram=problem.gram[:, piece, piece],
            scale=scale[:, :, piece],
            zero_point=zero_point[:, :, piece],
        )
        factor = _best_factor(own, off[:, :, piece], residual[:, :, piece])
        scale[:, :, piece] *= factor
        best = own.with_scale(scale[:, :, piece])
        change = best.values(best.nearest()) - best.target - off[:, :, piece]
        residual += change @ problem.gram[:, piece]
    return scale


def _best_factor(piece: Quadratic, off: Tensor, residual: Tensor) -> Tensor:
    """``[groups, rows, 1]``; ``off`` is the present error, ``residual`` the row's, times ``G``."""
    best = torch.ones_like(off[..., :1])
    most = torch.zeros_like(best)
    for steps in (COARSE, FINE):
        middle = best if steps is FINE else torch.zeros_like(best)
        for step in steps:
            factor = middle + step
            other = piece.with_scale(piece.scale * factor)
            change = other.values(other.nearest()) - other.target - off
            gain = -((2 * residual + change @ piece.gram) * change).sum(-1, keepdim=True)
            better = gain > most
            most = torch.where(better, gain, most)
            best = torch.where(better, factor, best)
    return best
