"""Which range of a tensor the grid covers: all of it, a percentile, or the one of least error.

The error search is BRECQ's (arXiv 2102.05426): 80 factors from 1.00 down to 0.21 shrink both ends
of the range, and the least mean ``|x - x_hat| ** 2.4`` wins. Signed symmetric grids use the full
code range ``[-2^(b-1), 2^(b-1) - 1]``; there a shrunk maximum may be mapped to either end code, and
both are tried.

Everything works on rows ``[rows, n]`` with one grid a row. Ties go to the wider range.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import assert_never

import torch
from torch import Tensor

from qcompile.policy.scheme import Lsq, MinMax, Mse, Observer, Percentile, QuantSlot
from qcompile.quant.grid import Grid, check, covering, saturate, with_scale
from qcompile.quant.grouping import grouping
from qcompile.quant.sampling import Sample

SHRINK_FACTORS = tuple((100 - step) / 100 for step in range(80))
"""1.00, 0.99, .. 0.21"""

_CHUNK = 1 << 17
"""Elements in flight: the search passes over them 80 times and more, so they should stay cached."""

_NEGLIGIBLE = 1e-12
"""Distance, of the maximum, that stands for none: log and exp take ten times as long at zero."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Numbers ``[rows, n]`` and the true range ``[rows, 1]`` of what they are drawn from."""

    values: Tensor
    low: Tensor
    high: Tensor


def weight_range(weight: Tensor, spec: QuantSlot, output_axis: int) -> Grid:
    """The float32 grid of a weight, with parameters ``[outer, groups, 1]`` (see ``Grouping``)."""
    view = grouping(spec.granularity, tuple(weight.shape), output_axis)
    grouped = view.view(weight.to(torch.float32))
    low, high = grouped.aminmax(dim=-1, keepdim=True)
    rows = Rows(grouped.flatten(0, 1), low.flatten(0, 1), high.flatten(0, 1))
    grid = search(rows, spec)
    shape = (view.outer, view.groups, 1)
    return Grid(grid.scale.view(shape), grid.zero_point.view(shape), grid.qmin, grid.qmax)


def activation_range(samples: Sample, spec: QuantSlot) -> Grid:
    """The float32 grid ``[1]`` or ``[channels]`` of an activation over all calibration batches."""
    grid = search(Rows(samples.values, samples.low, samples.high), spec)
    return Grid(grid.scale.view(-1), grid.zero_point.view(-1), grid.qmin, grid.qmax)


def search(rows: Rows, spec: QuantSlot) -> Grid:
    """One grid a row, parameters ``[rows, 1]``, in the dtype of the values."""
    chunk = max(_CHUNK // max(rows.values.shape[1], 1), 1)
    parts = zip(
        rows.values.split(chunk), rows.low.split(chunk), rows.high.split(chunk), strict=True
    )
    grids = [_observe(Rows(*part), spec.observer, spec) for part in parts]
    grid = Grid(
        torch.cat([grid.scale for grid in grids]),
        torch.cat([grid.zero_point for grid in grids]),
        spec.integer.qmin,
        spec.integer.qmax,
    )
    check(grid)
    return grid


def error(values: Tensor, grid: Grid, p: float) -> Tensor:
    """Float64 sums ``[rows, 1]`` of ``(|x - x_hat| / max|x|) ** p``.

    Relative to the row's own maximum, so that ``** p`` neither overflows nor underflows and the
    search gives the same codes for ``x`` and ``2 x``.
    """
    unit = values.abs().amax(dim=1, keepdim=True)
    unit = torch.where(unit == 0, torch.ones_like(unit), unit)
    low, high = grid.qmin - grid.zero_point, grid.qmax - grid.zero_point
    total = torch.zeros(unit.shape, dtype=torch.float64, device=values.device)
    for block in values.split(max(_CHUNK // values.shape[0], 1), dim=1):
        # in place, and exp(p log d) for d ** p: the inner loop of every range search
        steps = saturate((block / grid.scale).round_(), low, high)
        distance = steps.mul_(grid.scale).sub_(block).abs_().div_(unit).clamp_(min=_NEGLIGIBLE)
        power = distance.log_().mul_(p).exp_()
        total += power.sum(dim=1, keepdim=True, dtype=torch.float64)
    return total


def _observe(rows: Rows, observer: Observer, spec: QuantSlot) -> Grid:
    match observer:
        case MinMax():
            return _covering(rows.low, rows.high, spec)
        case Percentile(q=q):
            return _covering(*_percentile(rows, q, spec), spec)
        case Mse(p=p):
            return _least_error(rows, spec, p)
        case Lsq():
            return _least_error(rows, spec, Mse().p)
        case _:
            assert_never(observer)


def _covering(low: Tensor, high: Tensor, spec: QuantSlot) -> Grid:
    return covering(low, high, spec.integer.qmin, spec.integer.qmax, symmetric=spec.symmetric)


def _percentile(rows: Rows, q: float, spec: QuantSlot) -> tuple[Tensor, Tensor]:
    """The range that holds ``q`` percent: cut at both ends, or at one if zero is an end.

    A row whose cut range would be empty (nearly all zeros) keeps its true range.
    """
    if spec.symmetric and spec.integer.signed:
        bound = _quantile(rows.values.abs(), q)
        low, high = -bound, bound
    else:
        tail = (100 - q) / 2
        one_sided = (rows.low >= 0) | (rows.high <= 0)
        low = torch.where(
            one_sided, _quantile(rows.values, 100 - q), _quantile(rows.values, tail)
        ).clamp(max=0)
        high = torch.where(
            one_sided, _quantile(rows.values, q), _quantile(rows.values, 100 - tail)
        ).clamp(min=0)
    empty = low == high
    return torch.where(empty, rows.low, low), torch.where(empty, rows.high, high)


def _quantile(values: Tensor, q: float) -> Tensor:
    """The ``q``-th percentile of each row by nearest rank: no interpolation, no size limit."""
    rank = round(q / 100 * (values.shape[1] - 1)) + 1
    return values.kthvalue(rank, dim=1, keepdim=True).values


def _least_error(rows: Rows, spec: QuantSlot, p: float) -> Grid:
    best = _covering(rows.low, rows.high, spec)
    least = error(rows.values, best, p)
    for candidate in _candidates(rows, spec):
        score = error(rows.values, candidate, p)
        better = score < least
        least = torch.where(better, score, least)
        best = Grid(
            torch.where(better, candidate.scale, best.scale),
            torch.where(better, candidate.zero_point, best.zero_point),
            best.qmin,
            best.qmax,
        )
    return best


def _candidates(rows: Rows, spec: QuantSlot) -> Iterator[Grid]:
    low, high = rows.low.clamp(max=0), rows.high.clamp(min=0)
    qmin, qmax = spec.integer.qmin, spec.integer.qmax
    if not spec.symmetric:
        for factor in SHRINK_FACTORS[1:]:
            yield _covering(low * factor, high * factor, spec)
        return
    largest = torch.maximum(high, -low) if qmin < 0 else high
    for last_code in _last_codes(qmin, qmax):
        for factor in SHRINK_FACTORS:
            raw = largest * factor / last_code
            yield with_scale(raw, low, qmin, qmax, symmetric=True)


def _last_codes(qmin: int, qmax: int) -> tuple[int, ...]:
    """End codes that stand for a shrunk maximum; one is enough where they differ by under 1%."""
    worth_it = qmin < 0 and 1 / -qmin > 1 - SHRINK_FACTORS[1]
    return (qmax, -qmin) if worth_it else (qmax,)
