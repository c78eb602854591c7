"""Steepest coordinate descent on the codes: a monotone polish, until no single change helps.

Changing the code of column ``j`` by ``d`` changes the objective of a row by
``2 d s_j r_j + d^2 s_j^2 G_jj`` with ``r = (w_hat - target) G``; on levels ``d`` is the gap to the
neighbour. The best change of each row is taken at once for all rows; rows are independent, and one
that has settled is worked on no more.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from qcompile.quant.quadratic import Quadratic

SETTLED = 0.25
"""Share of settled rows at which they are taken out of the work."""


@dataclass(frozen=True, slots=True)
class Descent:
    codes: Tensor
    """``[groups, rows, k]``"""
    flips: int
    residual: Tensor
    """``(values - target) @ gram`` of the codes, ``[groups, rows, k]``."""


def coordinate_descent(
    problem: Quadratic, codes: Tensor, *, max_flips: int, residual: Tensor | None = None
) -> Descent:
    """Best-improvement descent from ``codes``; at most ``max_flips`` flips a row.

    ``residual`` is that of the codes, where it is at hand.
    """
    residual = problem.residual(codes) if residual is None else residual.clone()
    work = _Work.of(problem, codes, residual)
    found, left_over = torch.empty_like(work.codes), torch.empty_like(work.residual)
    flips = 0
    for _ in range(max_flips):
        gain, column, step = work.best_flip()
        active = gain < 0
        left = int(active.count_nonzero())
        if not left:
            break
        flips += left
        work.flip(column, torch.where(active, step, torch.zeros_like(step)))
        if left < (1 - SETTLED) * len(active):
            found[work.rows], left_over[work.rows] = work.codes, work.residual
            work = work.only(active)
    found[work.rows], left_over[work.rows] = work.codes, work.residual
    return Descent(found.view_as(codes), flips, left_over.view_as(codes))


@dataclass(slots=True)
class _Work:
    """Rows of all groups in one list ``[n, k]``."""

    problem: Quadratic
    rows: Tensor
    """Where each row stands in the list of all."""
    group: Tensor
    codes: Tensor
    scale: Tensor
    residual: Tensor
    curvature: Tensor

    @classmethod
    def of(cls, problem: Quadratic, codes: Tensor, residual: Tensor) -> "_Work":
        groups, rows, _ = problem.target.shape
        scale = problem.scale.expand_as(problem.target)
        curvature = scale.square() * problem.gram.diagonal(dim1=-2, dim2=-1)[:, None, :]
        number = torch.arange(groups * rows, device=codes.device)
        return cls(
            problem,
            number,
            number // rows,
            codes.flatten(0, 1).clone(),
            scale.flatten(0, 1),
            residual.flatten(0, 1),
            curvature.flatten(0, 1),
        )

    def only(self, active: Tensor) -> "_Work":
        kept = active.nonzero()[:, 0]
        return _Work(
            self.problem,
            self.rows[kept],
            self.group[kept],
            self.codes[kept],
            self.scale[kept],
            self.residual[kept],
            self.curvature[kept],
        )

    def best_flip(self) -> tuple[Tensor, Tensor, Tensor]:
        """Lowest change of the objective for each row, its column, and its step (+1 or -1).

        Changes within rounding noise of zero count as none, so that descent ends.
        """
        upward = self.residual < 0
        curvature, size = self.curvature, (2 * self.scale * self.residual).abs()
        if self.problem.levels is not None:
            gap = self._gaps(self.codes, upward)
            curvature, size = curvature * gap.square(), size * gap
        change = curvature - size
        limits = torch.where(upward, self.problem.qmax, self.problem.qmin)
        change.masked_fill_(self.codes == limits, torch.inf)
        noise = 8 * torch.finfo(change.dtype).eps * (curvature + size)
        change.masked_fill_(change.abs() <= noise, 0.0)
        gain, column = change.min(dim=1)
        up = upward.gather(1, column[:, None])[:, 0]
        return gain, column, torch.where(up, 1.0, -1.0).to(change.dtype)

    def flip(self, column: Tensor, step: Tensor) -> None:
        """Move one code of each row by ``step``; 0 leaves a row as it is."""
        place, step = column[:, None], step[:, None]
        change = step * self.scale.gather(1, place)
        if self.problem.levels is not None:
            change = change * self._gaps(self.codes.gather(1, place), step > 0)
        self.codes.scatter_add_(1, place, step)
        self.residual.addcmul_(change, self.problem.gram[self.group, column])

    def _gaps(self, codes: Tensor, upward: Tensor) -> Tensor:
        """From each level to the next one above, or below; of one without it any will do."""
        assert self.problem.levels is not None
        values = self.problem.levels[0]
        gaps = values.diff() if len(values) > 1 else torch.zeros_like(values)
        lower = torch.where(upward, codes, codes - 1).long()
        return gaps[lower.clamp(0, len(gaps) - 1)]
