"""The grid of a weight that is being learned: where numbers lie on it, and what lies there.

A *position* counts codes from some origin: whole at a code, fractional between two neighbours. What
a weight does between codes is the business of a variable; it need not know what the codes stand
for, so that every variable serves every grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from qcompile.quant.grid import saturate


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """``offset + scale * (clip(floor + h + zero_point, *limits) - zero_point)`` for ``h`` in 0..1.

    The numbers between two neighbours, as ``SoftRound`` takes them.
    """

    floor: Tensor
    scale: Tensor
    zero_point: Tensor
    limits: tuple[int, int]
    offset: Tensor | None


class LearnedGrid(Protocol):
    """Gradients reach the positions, and the parameters of the grid that are learned."""

    @property
    def unit(self) -> Tensor:
        """The size of a step at the start; for levels that are no steps, their scale."""
        ...

    def position(self, weight: Tensor) -> Tensor:
        """Of numbers; neither rounded nor clipped."""
        ...

    def position_of(self, codes: Tensor) -> Tensor: ...

    def floor(self, position: Tensor) -> Tensor:
        """The lower of the two neighbours that a number may be rounded to."""
        ...

    def cell(self, floor: Tensor) -> Cell: ...

    def at(self, position: Tensor) -> Tensor:
        """Numbers at positions, linear between codes and constant beyond the last ones."""
        ...

    def rounded(self, position: Tensor) -> Tensor:
        """Numbers of the nearest codes; rounding is straight through, clipping is not."""
        ...

    def codes(self, position: Tensor) -> Tensor:
        """The nearest codes, int16."""
        ...

    def learned(self) -> Sequence[Tensor]: ...


def clipped(position: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """``clip(position, low, high)``; at a bound the gradient is the position's, beyond the bound's.

    ``minimum`` and ``maximum`` would halve it between two equals, and codes are often at a bound.
    """
    inside = (position >= low) & (position <= high)
    return torch.where(inside, position, saturate(position.detach(), low, high))


def straight_through(position: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """``clip(round(position), low, high)`` with the gradient of what is not clipped.

    A position that is rounded to the last code is not clipped: it may come back. Beyond, the
    gradient is that of the bound.
    """
    whole = saturate(torch.round(position.detach()), low, high)
    inside = (position >= low - 0.5) & (position <= high + 0.5)
    return torch.where(inside, position + (whole - position).detach(), whole)
