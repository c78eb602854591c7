"""Least-squares scale for fixed codes, and the exact best scale for nearest codes.

For codes ``k`` (zero point taken off) the objective is a parabola in the row's scale with minimum
``s* = (k G w^T) / (k G k^T)``.
"""

import torch
from torch import Tensor

from qcompile.quant.quadratic import Quadratic


def refit_scale(problem: Quadratic, codes: Tensor) -> Tensor:
    """One scale a row, ``[groups, rows, 1]``; a row keeps its own where the refit is no use.

    That is where ``k G k^T`` is zero or the best scale is not positive.
    """
    steps = codes - problem.zero_point
    weighted = steps @ problem.gram
    top = (weighted * problem.target).sum(-1, keepdim=True)
    bottom = (weighted * steps).sum(-1, keepdim=True)
    current = problem.scale.expand_as(problem.target)[..., :1]
    usable = (bottom > 0) & (top > 0)
    refitted = top / torch.where(bottom > 0, bottom, torch.ones_like(bottom))
    return torch.where(usable, refitted, current)


def nearest_then_refit(row: Tensor, gram: Tensor, qmin: int, qmax: int) -> tuple[Tensor, float]:
    """Scale and objective of the best codes that nearest rounding yields at any scale, refitted.

    ``row`` is ``[k]``, no zero point. Nearest codes change only at ``s = |w_j| / (m + 1/2)``;
    between two such scales they are fixed, and their own best scale (which may lie outside the
    interval) is closed-form: exact by enumeration.
    """
    steps = torch.arange(max(-qmin, qmax), dtype=row.dtype) + 0.5
    breaks = (row.abs()[:, None] / steps).flatten()
    breaks = breaks[breaks > 0].unique()
    low = torch.cat([breaks[:1] / 2, breaks[:-1]])
    codes = torch.round(row / ((low + breaks) / 2)[:, None]).clamp(qmin, qmax)
    problem = Quadratic(
        target=row.expand_as(codes)[None],
        gram=gram[None],
        scale=breaks[None, :, None],
        zero_point=torch.zeros(1, 1, 1, dtype=row.dtype),
        qmin=qmin,
        qmax=qmax,
    )
    scale = refit_scale(problem, codes[None])
    objective = problem.with_scale(scale).objective(codes[None])[0]
    place = int(objective.argmin())
    return scale[0, place, 0], float(objective[place])
