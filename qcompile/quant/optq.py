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
    leaf: int = 16,
    elimination: Elimination | None = None,
) -> tuple[Tensor, Tensor]:
    """Codes ``[groups, rows, k]`` and the running loss ``[groups, rows]``.

    The running loss ``sum_i ((w_i - q_i) / U_ii)^2`` equals the damped objective exactly, clipping
    included. Scales are those of the problem (static groups), so any order is legal.
    ``elimination`` is that of the problem's Gram matrix, where it is at hand. Up to ``leaf``
    columns are rounded one by one; what they leave behind is spread by halves, in products.
    """
    known = eliminate(problem.gram, order, damping) if elimination is None else elimination
    groups, rows, k = problem.target.shape
    index = known.columns[:, :, None].expand(groups, k, rows)

    def by_column(x: Tensor) -> Tensor:
        """``[groups, k, rows]`` in the order of rounding: a column is one stretch of memory."""
        if x.shape[2] == 1:
            return x.transpose(1, 2).expand(groups, k, rows)
        return x.expand(groups, rows, k).transpose(1, 2).gather(1, index)

    work = _Columns(
        problem=problem,
        factor=known.factor.to(problem.target.dtype),
        weight=by_column(problem.target),
        scale=by_column(problem.scale),
        zero_point=by_column(problem.zero_point),
        leaf=leaf,
    )
    work.round(0, k)
    codes, loss = work.codes, work.errors.square_().sum(1)
    del work
    back = known.columns.argsort(dim=1)[:, None, :].expand(groups, rows, k)
    return codes.transpose(1, 2).gather(2, back), loss


class _Columns:
    """Columns ``[groups, k, rows]`` in the order of rounding, as far as they are rounded."""

    def __init__(
        self,
        problem: Quadratic,
        factor: Tensor,
        weight: Tensor,
        scale: Tensor,
        zero_point: Tensor,
        leaf: int,
    ) -> None:
        self._problem = problem
        self._factor = factor
        self._weight = weight
        self._scale, self._zero_point = scale, zero_point
        self._leaf = leaf
        self.codes = torch.empty_like(weight)
        self.errors = torch.empty_like(weight)
        """In units of the diagonal of ``factor``."""

    def round(self, start: int, stop: int) -> None:
        """Columns ``[start, stop)``, all before them being done."""
        if stop - start <= self._leaf:
            for column in range(start, stop):
                self._round_one(column, stop)
            return
        middle = (start + stop) // 2
        self.round(start, middle)
        spread = self._factor[:, start:middle, middle:stop].transpose(1, 2)
        self._weight[:, middle:stop].baddbmm_(spread, self.errors[:, start:middle], alpha=-1)
        self.round(middle, stop)

    def _round_one(self, column: int, stop: int) -> None:
        current, scale = self._weight[:, column], self._scale[:, column]
        zero_point, factor = self._zero_point[:, column], self._factor[:, column]
        code = self._problem.codes(current / scale, zero_point)
        error = (current - self._problem.steps(code, zero_point) * scale) / factor[:, column, None]
        self.codes[:, column], self.errors[:, column] = code, error
        behind = self._weight[:, column + 1 : stop]
        behind.addcmul_(factor[:, column + 1 : stop, None], error[:, None, :], value=-1)
