"""What is optimised in place of codes, seen from outside.

The interface of every variable: a file of this folder each, listed in ``registry``. Weights are in
the view ``[outer, groups, size]`` of their scales (see ``Grouping``), or any other that the scale
broadcasts to.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from qcompile.methods.tuning import Tuning
from qcompile.quant.learned_grid import LearnedGrid

REACH = 0.49
"""How near to a code a number is put that starts from it: within the half step that it rounds."""


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """Where a variable begins."""

    weight: Tensor
    grid: LearnedGrid
    steps: Tensor | None
    """Whole positions to lean towards: codes that other solvers found. ``None``: the weight."""
    tuning: Tuning
    strength: float | None = None
    """Of a regulariser that closes what is open, on the sum over the weights. ``None``: measured
    from the gradient, which tells nothing where the loss has no noise and starts at zero."""
    moves: Tensor | None = None
    """True where a weight may move; the loss does not see the others. ``None``: all may."""


class Variable(Protocol):
    """How the numbers of one weight move while they are learned.

    What stands below is for a variable whose ``value`` is on the grid at every step.
    """

    has_gap: ClassVar[bool] = False
    """``value`` may lie between codes, so that ``steps`` changes it."""

    def __init__(self, start: Start) -> None: ...

    def learned(self) -> Sequence[Tensor]:
        """What the optimizer moves."""
        ...

    def prepare(self, step: int) -> None:
        """Called before the loss of ``step`` is computed, from 0."""

    def observe(self, step: int) -> None:
        """Called when the gradients of ``step`` are there, before the optimizer moves."""

    def value(self) -> Tensor:
        """The weight as the loss sees it."""
        ...

    def steps(self) -> Tensor:
        """Whole positions of the result; clipping is left to the grid."""
        ...

    @property
    def soft_share(self) -> float:
        """Share of the weights that lie between codes, where ``value`` and ``steps`` differ."""
        return 0.0


@torch.no_grad()
def near_codes(weight: Tensor, grid: LearnedGrid, steps: Tensor) -> Tensor:
    """Numbers, moved to within ``REACH`` of the codes that they start from."""
    position = grid.position(weight)
    wanted = torch.maximum(torch.minimum(position, steps + REACH), steps - REACH)
    return torch.where(wanted == position, weight, grid.at(wanted))


def temperature(step: int, tuning: Tuning, ends: tuple[float, float]) -> float:
    """Falls from the first end to the second in equal ratios."""
    first, last = ends
    return float(first * (last / first) ** min(step / max(tuning.steps - 1, 1), 1.0))
