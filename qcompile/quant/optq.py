"""OPTQ: round column by column, spread each error over the columns not yet rounded.

Frantar et al., 2210.17323, algorithm 1, for batched problems. The result depends on the order of
the columns.
"""

import torch
from torch import Tensor

from qcompile.quant.elimination import Elimination, Order, eliminate
from qcompile.quant.quadratic import Quadratic


def optq(
    problem: Quadratic,
    *,
    order: Order = "activation",
    damping: float = 0.01,
    block: int = 64,
    elimination: Elimination | None = None,
) -> tuple[Tensor, Tensor]:
    """Codes ``[groups, rows, k]`` and the running loss ``[groups, rows]``.

    The running loss ``sum_i ((w_i - q_i) / U_ii)^2`` equals the damped objective exactly, clipping
    included. Scales are those of the problem (static groups), so any order is legal.
    ``elimination`` is that of the problem's Gram matrix, where it is at hand.
    """
    known = eliminate(problem.gram, order, damping) if elimination is None else elimination
    groups, rows, k = problem.target.shape
    columns, factor = known.columns, known.factor.to(problem.target.dtype)
    index = columns[:, :, None].expand(groups, k, rows)

    def by_column(x: Tensor) -> Tensor:
        """``[groups, k, rows]`` in the order of rounding: a column is one stretch of memory."""
        if x.shape[2] == 1:
            return x.transpose(1, 2).expand(groups, k, rows)
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
