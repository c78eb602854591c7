"""The uniform grid while it is learned: its step and its zero point may move."""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from qcompile.methods.axes import Learned
from qcompile.quant.grid import Grid, smallest_scale
from qcompile.quant.learned_grid import Cell, clipped, straight_through


class UniformLearned:
    """Positions are steps from zero, so that a moving zero point moves the ends alone.

    The step is learned as the logarithm of a factor (it stays positive), the zero point as a share
    of the range of codes, rounded straight through (LSQ+, 2004.09576).
    """

    def __init__(self, start: Grid, learn: Collection[Learned] = ()) -> None:
        self.start = start
        empty = torch.zeros_like(start.scale)
        self._growth = empty.clone().requires_grad_() if "scale" in learn else None
        self._shift = empty.clone().requires_grad_() if "zero_point" in learn else None

    def learned(self) -> Sequence[Tensor]:
        return [part for part in (self._growth, self._shift) if part is not None]

    @property
    def unit(self) -> Tensor:
        return self.start.scale

    @property
    def scale(self) -> Tensor:
        if self._growth is None:
            return self.start.scale
        return (self.start.scale * self._growth.exp()).clamp(min=smallest_scale(self._growth))

    @property
    def zero_point(self) -> Tensor:
        if self._shift is None:
            return self.start.zero_point
        low, high = self.start.qmin, self.start.qmax
        moved = (self.start.zero_point + (high - low) * self._shift).clamp(low, high)
        return moved + (torch.round(moved) - moved).detach()

    @torch.no_grad()
    def hard(self) -> Grid:
        return Grid(self.scale, self.zero_point, self.start.qmin, self.start.qmax)

    def position(self, weight: Tensor) -> Tensor:
        return weight / self.scale

    def position_of(self, codes: Tensor) -> Tensor:
        return codes - self.zero_point.detach()

    def floor(self, position: Tensor) -> Tensor:
        return torch.floor(position)

    def cell(self, floor: Tensor) -> Cell:
        limits = (self.start.qmin, self.start.qmax)
        return Cell(floor, self.scale, self.zero_point, limits, offset=None)

    def at(self, position: Tensor) -> Tensor:
        return clipped(position, *self._ends()) * self.scale

    def rounded(self, position: Tensor) -> Tensor:
        return straight_through(position, *self._ends()) * self.scale

    @torch.no_grad()
    def codes(self, position: Tensor) -> Tensor:
        whole = torch.round(position) + self.zero_point
        return whole.clamp(self.start.qmin, self.start.qmax).to(torch.int16)

    def _ends(self) -> tuple[Tensor, Tensor]:
        zero_point = self.zero_point
        return self.start.qmin - zero_point, self.start.qmax - zero_point
