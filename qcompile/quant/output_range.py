"""The range of a layer's input with which the layer's output is off least.

A range search looks at the numbers alone. Here an error counts as much as the layer lets through:
a channel that weights hardly look at may be cut, one that they multiply may not. Both ends move on
their own, since behind a GELU a step below zero is worth more than the last step above.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from qcompile.policy.scheme import QuantSlot
from qcompile.quant.grid import Grid, covering

JOINT = tuple(step / 10 for step in range(10, 0, -1))
"""Shares of both ends that are looked at first."""
HALVINGS = (0.1, 0.05, 0.025)
"""Steps of one end, then of the other, around the best."""
REACH = 3
"""Steps in either direction."""
LOOKED_AT = len(JOINT) + 4 * REACH * len(HALVINGS)
"""Grids that are compared at most."""
ROWS = 512
"""Of inputs, on which they are compared."""
LEAST = 0.02
"""Share of an end below which it is not moved."""

_Shares: TypeAlias = tuple[float, float]
"""Of the low end and of the high one."""


@dataclass(frozen=True, slots=True, eq=False)
class LayerInput:
    """A sample of the rows that a layer multiplies, and how much an error in them counts."""

    rows: Tensor
    """``[groups, n, k]``, float32"""
    form: Tensor
    """``[groups, k, k]`` of the quadratic form that an error goes through, or ``[groups, k, m]`` of
    its factor where that is narrower."""
    is_factor: bool
    centred: bool
    """The layer's bias takes up the mean of the error."""
    weights: Tensor
    """How much each row counts, ``[1, n]``."""

    def error(self, grid: Grid) -> float:
        """The weighted sum of ``|W (q(x) - x)|^2`` over the rows."""
        off = grid.fake_quantize(self.rows).sub_(self.rows)
        own = self.weights[..., None]
        if self.centred:
            off -= (off * own).sum(1, keepdim=True) / own.sum(1, keepdim=True)
        off *= own.sqrt()
        through = off @ self.form
        return float((through if self.is_factor else off).mul_(through).sum(dtype=torch.float64))


def layer_input(
    rows: Tensor,
    weight: Tensor,
    gain: Tensor | None,
    *,
    centred: bool,
    weights: Tensor | None = None,
) -> LayerInput:
    """For rows ``[groups, n, k]`` and a weight ``[groups, m, k]``; ``gain`` is ``[groups, m]``.

    ``weights`` are ``[1, n]``; without, all rows count alike.
    """
    weight = weight.float() if gain is None else weight.float() * gain.float()[:, :, None]
    turned = weight.transpose(1, 2)
    is_factor = weight.shape[1] < weight.shape[2]
    form = turned.contiguous() if is_factor else turned @ weight
    if weights is None:
        weights = torch.ones(1, rows.shape[1], device=rows.device)
    return LayerInput(rows.float(), form, is_factor, centred, weights)


def output_range(
    sample: LayerInput, start: Grid, low: Tensor, high: Tensor, spec: QuantSlot
) -> Grid:
    """The best grid ``[1]`` over shares of the true ends, each ``[1]``; else ``start``.

    Both ends together first, then each by itself where the grid has a zero point.
    """
    low, high = low.clamp(max=0), high.clamp(min=0)
    number = spec.integer
    seen: dict[_Shares, float] = {}

    def grid(shares: _Shares) -> Grid:
        ends = low * shares[0], high * shares[1]
        return covering(*ends, number.qmin, number.qmax, symmetric=spec.symmetric)

    def error(shares: _Shares) -> float:
        if shares not in seen:
            seen[shares] = sample.error(grid(shares))
        return seen[shares]

    best = min(((share, share) for share in JOINT), key=error)
    for step in HALVINGS:
        best = min([best, *_around(best, step, together=spec.symmetric)], key=error)
    return grid(best) if error(best) < sample.error(start) else start


def _around(shares: _Shares, step: float, *, together: bool) -> Iterator[_Shares]:
    """Up to ``REACH`` steps of each end, rounded so that a way back meets what was seen."""
    first, last = shares
    for count in (*range(-REACH, 0), *range(1, REACH + 1)):
        move = count * step
        moved = ((move, move),) if together else ((move, 0.0), (0.0, move))
        for of_first, of_last in moved:
            found = round(first + of_first, 3), round(last + of_last, 3)
            if all(LEAST <= share <= 1 for share in found):
                yield found
