"""SignRound's offset (2309.05516): ``round(w / s + V)`` with ``|V| <= 1/2``, straight through."""

from collections.abc import Sequence

import torch
from torch import Tensor

from qcompile.quant.variables.variable import REACH, Start, Variable

BOUND = 0.5
"""Either neighbour of a number can be reached, and no other code."""


class Additive(Variable):
    def __init__(self, start: Start) -> None:
        self.grid, self.weight = start.grid, start.weight
        position = self.grid.position(self.weight).detach()
        self.anchor: Tensor | None = None
        offset = torch.zeros_like(position)
        if start.steps is not None:
            # as with gates, a code outside the two neighbours becomes one of the nearest pair
            reach = BOUND + REACH
            moved = torch.maximum(torch.minimum(position, start.steps + reach), start.steps - reach)
            self.anchor = moved - position
            offset = (start.steps - moved).clamp(-BOUND, BOUND)
        self.offset = offset.requires_grad_()

    def learned(self) -> Sequence[Tensor]:
        return [self.offset]

    @torch.no_grad()
    def prepare(self, step: int) -> None:
        self.offset.clamp_(-BOUND, BOUND)

    def value(self) -> Tensor:
        return self.grid.rounded(self._position())

    @torch.no_grad()
    def steps(self) -> Tensor:
        self.offset.clamp_(-BOUND, BOUND)
        return torch.round(self._position())

    def _position(self) -> Tensor:
        position = self.grid.position(self.weight) + self.offset
        return position if self.anchor is None else position + self.anchor
