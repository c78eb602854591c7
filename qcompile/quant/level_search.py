"""Which scale, exponent or levels suit a tensor: the search behind weights and activations.

Everything works on rows ``[rows, n]`` of one scale each, in float32; errors are float64 sums of
``|x - x_hat| ** p``, and ties go to the wider range, as in the search of the uniform grid.
"""

from collections.abc import Sequence
from math import sqrt
from typing import assert_never

import torch
from torch import Tensor

from qcompile.policy.scheme import Clip, Lsq, MinMax, Mse, Observer, Percentile, SignedMse
from qcompile.quant.level_grid import LevelGrid
from qcompile.quant.levels import power_levels
from qcompile.quant.range_search import SHRINK_FACTORS

COARSE_FACTORS = SHRINK_FACTORS[::4]
FINE_STEPS = (0.03, 0.02, 0.01, -0.01, -0.02, -0.03)
"""Of the widest scale, around the best coarse factor of each row."""
CANDIDATES = len(COARSE_FACTORS) + len(FINE_STEPS)
"""Scales that are looked at; without the fine steps, behind each exponent."""
NEGLIGIBLE = 1e-12
EXPONENTS = (0.3, 1.2)
EXPONENT_STEPS = 12
"""Golden sections: the last interval is 0.3% of ``EXPONENTS``."""
LLOYD_STEPS = 1000
_CHUNK = 1 << 20
"""Elements in flight."""


def fitted_scale(
    rows: Tensor, levels: Tensor, observer: Observer, fine: Sequence[float] = FINE_STEPS
) -> Tensor:
    """Scales ``[rows, 1]``; 1 for a row of zeros, where any would do."""
    chunk = max(_CHUNK // max(rows.shape[1], 1), 1)
    found = [_scale(part, levels, observer, fine) for part in rows.split(chunk)]
    scale = torch.cat(found)
    return torch.where(scale == 0, torch.ones_like(scale), scale)


def _scale(rows: Tensor, levels: Tensor, observer: Observer, fine: Sequence[float]) -> Tensor:
    known = levels[~levels.isnan()]
    end = torch.minimum(known.max(), -known.min())
    if bool(known.min() >= 0):  # nothing below zero, whatever the scale
        rows, end = rows.clamp(min=0), known.max()
    widest = rows.abs().amax(dim=1, keepdim=True) / end
    match observer:
        case MinMax():
            return widest
        case Clip(share=share):
            return widest * share
        case Percentile(q=q):
            rank = round(q / 100 * (rows.shape[1] - 1)) + 1
            inner = rows.abs().kthvalue(rank, dim=1, keepdim=True).values / end
            return torch.where(inner == 0, widest, inner)
        case Mse(p=p) | SignedMse(p=p):
            return _least_error(rows, levels, widest, p, fine)
        case Lsq():
            return _least_error(rows, levels, widest, Mse().p, fine)
        case _:
            assert_never(observer)


def _least_error(
    rows: Tensor, levels: Tensor, widest: Tensor, p: float, fine: Sequence[float]
) -> Tensor:
    """Over all of the range in steps of 4%, then in steps of 1% around what each row found."""
    best = widest
    least = error(rows, LevelGrid(levels, widest), p)
    for steps in ([factor - 1 for factor in COARSE_FACTORS[1:]], fine):
        around = best
        for step in steps:
            scale = torch.minimum(around + widest * step, widest)
            score = error(rows, LevelGrid(levels, scale), p)
            better = score < least
            best, least = torch.where(better, scale, best), torch.where(better, score, least)
    return best


def error(rows: Tensor, grid: LevelGrid, p: float) -> Tensor:
    """Of each row, relative to its own maximum: ``[rows, 1]``."""
    unit = rows.abs().amax(dim=1, keepdim=True)
    unit = torch.where(unit == 0, torch.ones_like(unit), unit)
    distance = (grid.dequantize(grid.quantize(rows)) - rows).abs_().div_(unit)
    # exp(p log d) for d ** p: the inner loop of the search
    power = distance.clamp_(min=NEGLIGIBLE).log_().mul_(p).exp_()
    return power.sum(dim=1, keepdim=True, dtype=torch.float64)


def fitted_exponent(rows: Tensor, bits: int, observer: Observer) -> float:
    """Of the whole weight, by golden section, each exponent with scales of its own.

    On the widest range a power grid looks far better than it is: most of that gain is clipping.
    """
    ratio = (sqrt(5) - 1) / 2
    p = observer.p if isinstance(observer, Mse) else 2.0
    power = rows.abs().amax(dim=1, keepdim=True).double() ** p

    def loss(exponent: float) -> float:
        levels = power_levels(bits, exponent).to(rows.device)
        scale = fitted_scale(rows, levels, observer, fine=())
        return float((error(rows, LevelGrid(levels, scale), p) * power).sum())

    low, high = EXPONENTS
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = loss(left), loss(right)
    for _ in range(EXPONENT_STEPS):
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = loss(right)
    return left if at_left <= at_right else right


def fitted_levels(rows: Tensor, scale: Tensor, count: int) -> Tensor:
    """Lloyd's algorithm on ``rows / scale``, each number weighing ``scale ** 2``; ``[count]``.

    It starts from quantiles and has no element of chance. A level that nothing is nearest to stays
    where it is.
    """
    values, order = (rows / scale).double().flatten().sort()
    weights = (scale.double() ** 2).expand(rows.shape).flatten()[order]
    mass = torch.nn.functional.pad(weights.cumsum(0), (1, 0))
    moment = torch.nn.functional.pad((weights * values).cumsum(0), (1, 0))
    places = (torch.arange(count, device=rows.device) * 2 + 1) * len(values) // (2 * count)
    levels = values[places]
    cuts = torch.empty(0)
    for _ in range(LLOYD_STEPS):
        inner = torch.searchsorted(values, (levels[1:] + levels[:-1]) / 2)
        new = torch.nn.functional.pad(inner, (1, 0))
        new = torch.cat([new, new.new_tensor([len(values)])])
        if torch.equal(new, cuts):
            break
        cuts = new
        inside = mass[cuts].diff()
        mean = moment[cuts].diff() / torch.where(inside > 0, inside, torch.ones_like(inside))
        levels = torch.where(inside > 0, mean, levels)
    return levels.float()
