"""Steepest coordinate descent on the codes: a monotone polish with a 1-opt certificate.

Changing the code of column ``j`` by ``d`` changes the objective of a row by
``2 d s_j r_j + d^2 s_j^2 G_jj`` with ``r = (w_hat - target) G``. The best change of each row is
taken at once for all rows; rows are independent.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from qcompile.quant.quadratic import Quadratic


@dataclass(frozen=True, slots=True)
class Descent:
    codes: Tensor
    """``[groups, rows, k]``"""
    flips: int
    one_opt: bool
    """No single step of one code up or down lowers any row's objective any further."""


def coordinate_descent(problem: Quadratic, codes: Tensor, *, max_flips: int) -> Descent:
    """Best-improvement descent from ``codes``; at most ``max_flips`` flips a row."""
    codes = codes.clone()
    scale = problem.scale.expand_as(problem.target)
    curvature = scale.square() * problem.gram.diagonal(dim1=-2, dim2=-1)[:, None, :]
    residual = (problem.values(codes) - problem.target) @ problem.gram
    flips = 0
    for _ in range(max_flips):
        gain, column, step = _best_flip(problem, codes, scale, curvature, residual)
        active = gain < 0
        if not bool(active.any()):
            return Descent(codes, flips, one_opt=True)
        flips += int(active.sum())
        move = torch.where(active, step, torch.zeros_like(step))[..., None]
        codes.scatter_add_(2, column[..., None], move)
        change = move * scale.gather(2, column[..., None])
        residual += change * _rows_of(problem.gram, column)
    gain, _, _ = _best_flip(problem, codes, scale, curvature, residual)
    return Descent(codes, flips, one_opt=not bool((gain < 0).any()))


def _best_flip(
    problem: Quadratic, codes: Tensor, scale: Tensor, curvature: Tensor, residual: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Lowest change of the objective for each row, its column, and its step (+1 or -1).

    Changes within rounding noise of zero count as none, so that descent ends.
    """
    slope = 2 * scale * residual
    step = torch.where(slope > 0, -1.0, 1.0).to(codes.dtype)
    feasible = torch.where(step > 0, codes < problem.qmax, codes > problem.qmin)
    change = curvature - slope.abs()
    change = torch.where(feasible, change, torch.full_like(change, torch.inf))
    noise = 8 * torch.finfo(change.dtype).eps * (curvature + slope.abs())
    change = torch.where(change.abs() <= noise, torch.zeros_like(change), change)
    gain, column = change.min(dim=2)
    return gain, column, step.gather(2, column[..., None])[..., 0]


def _rows_of(gram: Tensor, column: Tensor) -> Tensor:
    """``gram[g, column[g, r]]`` as ``[groups, rows, k]``."""
    groups, rows = column.shape
    k = gram.shape[-1]
    return gram.gather(1, column[..., None].expand(groups, rows, k))
