"""OPTQ: round column by column, spread each error over the columns not yet rounded.

Frantar et al., 2210.17323, algorithm 1, for batched problems. The Cholesky factor of the inverse is
taken in float64; the result depends on the order of the columns.
"""

from typing import Literal

import torch
from torch import Tensor

from qcompile.quant.quadratic import Quadratic, damped

Order = Literal["natural", "activation"]
RETRIES = 3
"""Times that damping is raised tenfold when the Gram matrix is not positive definite."""


class NotPositiveDefiniteError(ArithmeticError):
    """Damping of ``10 ** RETRIES`` times the first did not help: the statistics are unusable."""


def optq(
    problem: Quadratic, *, order: Order = "activation", damping: float = 0.01, block: int = 64
) -> tuple[Tensor, Tensor]:
    """Codes ``[groups, rows, k]`` and the running loss ``[groups, rows]``.

    The running loss ``sum_i ((w_i - q_i) / U_ii)^2`` equals the damped objective exactly, clipping
    included. Scales are those of the problem (static groups), so any order is legal.
    """
    groups, rows, k = problem.target.shape
    columns = _order(problem.gram, order)
    factor, _ = inverse_factor(_permute_gram(problem.gram, columns), damping)
    factor = factor.to(problem.target.dtype)
    index = columns[:, :, None].expand(groups, k, rows)

    def by_column(x: Tensor) -> Tensor:
        """``[groups, k, rows]`` in the order of rounding: a column is one stretch of memory."""
        return x.expand(groups, rows, k).transpose(1, 2).gather(1, index)

    weight, scale = by_column(problem.target), by_column(problem.scale)
    zero_point = by_column(problem.zero_point)
    codes = torch.empty_like(weight)
    loss = torch.zeros(groups, rows, dtype=weight.dtype, device=weight.device)
    for start in range(0, k, block):
        stop = min(start + block, k)
        errors = torch.zeros(groups, stop - start, rows, dtype=weight.dtype, device=weight.device)
        for column in range(start, stop):
            current, step, zero = weight[:, column], scale[:, column], zero_point[:, column]
            code = (torch.round(current / step) + zero).clamp_(problem.qmin, problem.qmax)
            error = (current - (code - zero) * step) / factor[:, column, column, None]
            codes[:, column] = code
            errors[:, column - start] = error
            loss += error.square()
            weight[:, column + 1 : stop] -= (
                factor[:, column, column + 1 : stop, None] * error[:, None, :]
            )
        weight[:, stop:] -= factor[:, start:stop, stop:].transpose(1, 2) @ errors
    back = columns.argsort(dim=1)[:, None, :].expand(groups, rows, k)
    return codes.transpose(1, 2).gather(2, back), loss


def inverse_factor(gram: Tensor, damping: float) -> tuple[Tensor, float]:
    """Upper Cholesky factor of the damped inverse in float64, and the damping that worked."""
    for retry in range(RETRIES + 1):
        used = damping * 10**retry
        lower, info = torch.linalg.cholesky_ex(damped(gram.double(), used))
        if int(info.abs().max()) == 0:
            inverse = torch.cholesky_inverse(lower)
            upper, failed = torch.linalg.cholesky_ex(inverse, upper=True)
            if int(failed.abs().max()) == 0:
                return upper, used
    raise NotPositiveDefiniteError


def _order(gram: Tensor, order: Order) -> Tensor:
    """``[groups, k]``: columns in the order in which they are rounded."""
    diagonal = gram.diagonal(dim1=-2, dim2=-1)
    if order == "natural":
        return torch.arange(diagonal.shape[1], device=gram.device).expand_as(diagonal)
    return diagonal.argsort(dim=1, descending=True, stable=True)


def _permute_gram(gram: Tensor, columns: Tensor) -> Tensor:
    groups, k = columns.shape
    rows_done = gram.gather(1, columns[:, :, None].expand(groups, k, k))
    return rows_done.gather(2, columns[:, None, :].expand(groups, k, k))
