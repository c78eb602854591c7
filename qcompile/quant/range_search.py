"""Which range of a tensor the grid covers: all of it, a percentile, or the one of least error.

The error search is BRECQ's (arXiv 2102.05426): 80 factors from 1.00 down to 0.21 shrink both ends
of the range, and the least mean ``|x - x_hat| ** 2.4`` wins. Signed symmetric grids use the full
code range ``[-2^(b-1), 2^(b-1) - 1]``; there a shrunk maximum may be mapped to either end code, and
both are tried.

Everything works on rows ``[rows, n]`` with one grid a row. Ties go to the wider range.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import repeat
from typing import TypeAlias, assert_never

import torch
from torch import Tensor

from qcompile.policy.scheme import (
    Clip,
    Lsq,
    MinMax,
    Mse,
    Observer,
    Percentile,
    QuantSlot,
    SignedMse,
)
from qcompile.quant.grid import Grid, check, covering, covering_turned, saturate, with_scale
from qcompile.quant.grouping import grouping
from qcompile.quant.sampling import Sample

SHRINK_FACTORS = tuple((100 - step) / 100 for step in range(80))
"""1.00, 0.99, .. 0.21"""

SETTLES = 15
"""Steps of a grid from which looking ahead pays: coarser ones are best where they cut off much."""
SAFE = 1e-4
"""By how much more has to be cut off: sums are of float32 numbers."""
SMALL = 1e-30
"""Largest numbers below which a scale may be wider than asked, to be no denormal."""

LOOK_AHEAD = 8
"""Factors between two looks at whether the rest can be left out."""

_CHUNK = 1 << 17
"""Elements in flight: the search passes over them 80 times and more, so they should stay cached."""

_Pieces: TypeAlias = Iterator[tuple[Tensor, Tensor | None]]

_NEGLIGIBLE = 1e-12
"""Distance, of the maximum, that stands for none: log and exp take ten times as long at zero."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Numbers ``[rows, n]`` and the true range ``[rows, 1]`` of what they are drawn from."""

    values: Tensor
    low: Tensor
    high: Tensor
    counts: Tensor | None = None
    """How much the error of each number counts in an error search; ``None``: all alike."""

    def split(self, size: int) -> "Iterator[Rows]":
        """By so many rows."""
        counts = repeat(None) if self.counts is None else self.counts.split(size)
        ends = zip(self.low.split(size), self.high.split(size), strict=True)
        for values, (low, high), own in zip(self.values.split(size), ends, counts, strict=False):
            yield Rows(values, low, high, own)


def weight_range(
    weight: Tensor,
    spec: QuantSlot,
    output_axis: int,
    *,
    stride: int = 1,
    counts: Tensor | None = None,
) -> Grid:
    """The float32 grid of a weight, with parameters ``[outer, groups, 1]`` (see ``Grouping``).

    With a ``stride`` an error search looks at every so many factors, then around the best of them.
    ``counts``, of the weight's shape, say how much the error of each number counts in it.
    """
    view = grouping(spec.granularity, tuple(weight.shape), output_axis)
    grouped = view.view(weight.to(torch.float32))
    low, high = grouped.aminmax(dim=-1, keepdim=True)
    own = None if counts is None else view.view(counts.to(torch.float32)).flatten(0, 1)
    rows = Rows(grouped.flatten(0, 1), low.flatten(0, 1), high.flatten(0, 1), own)
    grid = search(rows, spec, stride)
    shape = (view.outer, view.groups, 1)
    return Grid(grid.scale.view(shape), grid.zero_point.view(shape), grid.qmin, grid.qmax)


def activation_range(samples: Sample, spec: QuantSlot) -> Grid:
    """The float32 grid ``[1]`` or ``[channels]`` of an activation over all calibration batches."""
    grid = search(Rows(samples.values, samples.low, samples.high), spec)
    return Grid(grid.scale.view(-1), grid.zero_point.view(-1), grid.qmin, grid.qmax)


def search(rows: Rows, spec: QuantSlot, stride: int = 1) -> Grid:
    """One grid a row, parameters ``[rows, 1]``, in the dtype of the values."""
    chunk = max(_CHUNK // max(rows.values.shape[1], 1), 1)
    grids = [_observe(part, spec.observer, spec, stride) for part in rows.split(chunk)]
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
    unit = _unit(values)
    return _error(_pieces(values / unit, None), grid.scale / unit, grid, p)


def _unit(values: Tensor) -> Tensor:
    unit = values.abs().amax(dim=1, keepdim=True)
    return torch.where(unit == 0, torch.ones_like(unit), unit)


def _pieces(values: Tensor, counts: Tensor | None) -> _Pieces:
    """Both by columns, as many as stay cached."""
    size = max(_CHUNK // values.shape[0], 1)
    own = repeat(None) if counts is None else counts.split(size, dim=1)
    yield from zip(values.split(size, dim=1), own, strict=False)


def _error(pieces: _Pieces, scale: Tensor, grid: Grid, p: float) -> Tensor:
    """The same of values of at most 1 as they count, on ``grid`` with ``scale`` for its own."""
    low, high = grid.qmin - grid.zero_point, grid.qmax - grid.zero_point
    total = torch.zeros(scale.shape, dtype=torch.float64, device=scale.device)
    for piece, counts in pieces:
        # in place, and exp(p log d) for d ** p: the inner loop of every range search
        steps = (piece / scale).round_()
        saturate(steps, low, high, steps)
        total += _powers(steps.mul_(scale).sub_(piece).abs_(), p, counts)
    return total


def _powers(distance: Tensor, p: float, counts: Tensor | None) -> Tensor:
    """Float64 sums ``[rows, 1]`` of ``distance ** p``, which is overwritten."""
    powers = distance.clamp_(min=_NEGLIGIBLE).log_().mul_(p).exp_()
    if counts is not None:
        powers.mul_(counts)
    return powers.sum(dim=1, keepdim=True).double()


def _observe(rows: Rows, observer: Observer, spec: QuantSlot, stride: int) -> Grid:
    match observer:
        case MinMax():
            return _covering(rows.low, rows.high, spec)
        case Clip(share=share):
            return _covering(rows.low * share, rows.high * share, spec)
        case Percentile(q=q):
            return _covering(*_percentile(rows, q, spec), spec)
        case Mse(p=p) | SignedMse(p=p):
            return _least_error(rows, spec, p, stride)
        case Lsq():
            return _least_error(rows, spec, Mse().p, stride)
        case _:
            assert_never(observer)


def _covering(low: Tensor, high: Tensor, spec: QuantSlot) -> Grid:
    if spec.has_signed_scale:
        return covering_turned(low, high, spec.integer.qmin, spec.integer.qmax)
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


def _least_error(rows: Rows, spec: QuantSlot, p: float, stride: int) -> Grid:
    found = _Search(rows, spec, p)
    ends = _last_codes(spec.integer.qmin, spec.integer.qmax) if spec.symmetric else (1,)
    for end in ends:
        for number, factor in enumerate(SHRINK_FACTORS[::stride]):
            if number and number % LOOK_AHEAD == 0 and found.is_settled(factor):
                break
            found.look(torch.full_like(rows.low, factor), torch.full_like(rows.low, end))
    factor, end = found.factor, found.end
    for step in range(1, stride):
        found.look((factor + step / 100).clamp(max=1), end)
        found.look(factor - step / 100, end)
    return found.grid


class _Search:
    """The best grid so far, row by row; the one that covers all is the first."""

    def __init__(self, rows: Rows, spec: QuantSlot, p: float) -> None:
        self._spec, self._p = spec, p
        self._low, self._high = rows.low.clamp(max=0), rows.high.clamp(min=0)
        self._unit = _unit(rows.values)
        self._values, self._counts = rows.values / self._unit, rows.counts
        self.grid = _covering(rows.low, rows.high, spec)
        self.factor = torch.ones_like(rows.low)
        """The best that was looked at."""
        self.end = torch.full_like(rows.low, spec.integer.qmax if spec.symmetric else 1)
        self._least = self._error(self.grid)
        self._least_looked = torch.full_like(self._least, torch.inf)

    def look(self, factor: Tensor, end: Tensor) -> None:
        """At both ends times ``factor``; on a symmetric grid the code ``end`` is the larger one."""
        grid = self._at(factor, end)
        score = self._error(grid)
        better = score < self._least_looked
        self._least_looked = torch.where(better, score, self._least_looked)
        self.factor = torch.where(better, factor, self.factor)
        self.end = torch.where(better, end, self.end)
        better = score < self._least
        self._least = torch.where(better, score, self._least)
        self.grid = Grid(
            torch.where(better, grid.scale, self.grid.scale),
            torch.where(better, grid.zero_point, self.grid.zero_point),
            grid.qmin,
            grid.qmax,
        )

    def is_settled(self, factor: float) -> bool:
        """Whether no factor up to this one can be better, in any row.

        What a grid cuts off is part of its error, and a narrower one cuts off more. Its ends lie
        within one step of what it is asked to cover.
        """
        qmin, qmax = self._spec.integer.qmin, self._spec.integer.qmax
        if qmax - qmin < SETTLES or bool((self._unit < SMALL).any()):
            return False
        low, high = self._low * factor, self._high * factor
        if self._spec.symmetric:
            high = torch.maximum(high, -low)
            low, step = -high, high / qmax
        else:
            step = (high - low) / (qmax - qmin)
        low, high = (low - step) / self._unit, (high + step) / self._unit
        cut = torch.zeros(low.shape, dtype=torch.float64, device=low.device)
        for piece, counts in _pieces(self._values, self._counts):
            cut += _powers(torch.maximum(piece - high, low - piece), self._p, counts)
        is_worse = cut > self._least_looked * (1 + SAFE)
        return bool((is_worse | (self._high == self._low)).all())

    def _at(self, factor: Tensor, end: Tensor) -> Grid:
        spec = self._spec
        if not spec.symmetric:
            return _covering(self._low * factor, self._high * factor, spec)
        qmin, qmax = spec.integer.qmin, spec.integer.qmax
        largest = torch.maximum(self._high, -self._low) if qmin < 0 else self._high
        grid = with_scale(largest * factor / end, self._low, qmin, qmax, symmetric=True)
        return replace(grid, zero_point=self.grid.zero_point) if spec.has_signed_scale else grid

    def _error(self, grid: Grid) -> Tensor:
        pieces = _pieces(self._values, self._counts)
        return _error(pieces, grid.scale / self._unit, grid, self._p)


def _last_codes(qmin: int, qmax: int) -> tuple[int, ...]:
    """End codes that stand for a shrunk maximum; one is enough where they differ by under 1%."""
    worth_it = qmin < 0 and 1 / -qmin > 1 - SHRINK_FACTORS[1]
    return (qmax, -qmin) if worth_it else (qmax,)
