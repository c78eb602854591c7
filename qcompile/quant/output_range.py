"""The range of a layer's input behind which the layer's output can be made right best.

A range search looks at the numbers alone. Where a solver fits the weight to what arrives, a
narrower range is often better: what it cuts off can be told in part from the other inputs, what
its finer steps round off cannot. So a grid is judged by what the best weight behind it leaves of
the output's error, on rows that had no part in finding that weight.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf, isfinite

import torch
from torch import Tensor

from qcompile.quant.grid import Grid, smallest_scale
from qcompile.quant.second_moment import second_moment

STEP = 0.1
"""Of a walk from the observer's range to narrower ones, or to wider ones."""
LEAST, MOST = 0.3, 2.0
"""Shares of the observer's range between which the walk stays."""
USUAL = 4
"""Grids that such a walk compares, as a rule."""
WORTH_IT = 1e-3
"""Relative gain below which a range is not moved: in so few rows, less is noise."""

PER_INPUT = 3
"""Rows for each input, from which a weight is found."""
ROWS = 1024
"""The same at least, and those that judge it."""
FEWEST = 32
"""Rows that judge, below which a range stays as it was observed."""
MOST_FITTED, MOST_JUDGING = 1 << 26, 1 << 23
"""Elements of inputs that bound both."""


def rows_looked_at(groups: int, k: int) -> tuple[int, int]:
    """Of a layer with ``k`` inputs in each group: rows of the fit, and rows that judge."""
    judging = min(ROWS, max(MOST_JUDGING // (groups * k), FEWEST))
    return max(min(PER_INPUT * k, MOST_FITTED // (groups * k)), judging), judging


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """Some of the rows that a layer multiplies, and what is wanted of them; float32."""

    inputs: Tensor
    """``[groups, n, k]``, before they are quantized."""
    wanted: Tensor
    """``[groups, n, m]``"""
    weights: Tensor
    """How much each row counts, ``[1, n]``."""


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """How the weight behind a grid is found."""

    rows: Drawn
    centred: bool
    """The layer's bias takes up the mean error."""
    damping: float
    """In mean diagonals."""


@dataclass(frozen=True, slots=True, eq=False)
class OutputError:
    """Of a layer whose inputs are put on a grid."""

    weight: Tensor
    """``[groups, m, k]``, as the model has it."""
    held: Drawn
    gain: Tensor | None = None
    """How much of each output counts, ``[groups, m]``."""
    fit: Fit | None = None
    """``None``: ``weight`` stays as it is."""

    def __call__(self, grid: Grid) -> float:
        """The mean of the squared error on ``held``; infinite where no weight can be found."""
        q, t = grid.fake_quantize(self.held.inputs), self.held.wanted
        weight: Tensor | None = self.weight
        if self.fit is not None:
            weight, mean_q, mean_t = _fitted(self.fit, self.weight, grid)
            q, t = q.sub_(mean_q), t - mean_t
        if weight is None:
            return inf
        off = (q @ weight.transpose(1, 2)).sub_(t)
        if self.gain is not None:
            off *= self.gain[:, None, :]
        return float((off.square_().sum(-1) * self.held.weights).sum(dtype=torch.float64))


def _fitted(fit: Fit, weight: Tensor, grid: Grid) -> tuple[Tensor | None, Tensor, Tensor]:
    """The ridge ``(E[t q^T] + lambda W) (G + lambda)^-1``, and the means around which it is."""
    own = fit.rows.weights[..., None]
    q, t = grid.fake_quantize(fit.rows.inputs), fit.rows.wanted
    mean_q, mean_t = (
        (x * own).sum(1, keepdim=True) / own.sum() if fit.centred else x.new_zeros(())
        for x in (q, t)
    )
    heavy = q.sub_(mean_q) * own
    gram, cross = second_moment(heavy, q), (t - mean_t).transpose(1, 2) @ heavy
    diagonal = gram.diagonal(dim1=-2, dim2=-1)
    bump = fit.damping * diagonal.mean(1)[:, None]
    # a group whose inputs are never seen is as good as any, and its diagonal must not be zero
    bump = torch.where(bump == 0, torch.ones_like(bump), bump)
    diagonal += bump
    triangle, info = torch.linalg.cholesky_ex(gram)
    if int(info.abs().max()):
        return None, mean_q, mean_t
    right = cross.add_(bump[..., None] * weight).transpose(1, 2)
    return torch.cholesky_solve(right, triangle).transpose(1, 2), mean_q, mean_t


def output_range(error: Callable[[Grid], float], start: Grid) -> Grid:
    """The end of a walk from ``start`` along shares of its range, as long as it leads down."""
    best, least = start, error(start)
    if not isfinite(least):
        return start
    for step in (-STEP, STEP):
        for count in range(1, round(MOST / STEP)):
            share = round(1 + count * step, 3)
            if not LEAST <= share <= MOST:
                break
            scale = (start.scale * share).clamp(min=smallest_scale(start.scale))
            grid = replace(start, scale=scale)
            found = error(grid)
            if not found < least * (1 - WORTH_IT):
                break
            best, least = grid, found
        if best is not start:
            break
    return best
