"""The weight itself, rounded straight through: it may go to any code (Block-AP, 2407.11062).

It is learned in steps of the grid at the start, so that one rate suits weights of any size.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from qcompile.quant.variables.variable import Start, Variable, near_codes


class DirectWeight(Variable):
    def __init__(self, start: Start) -> None:
        self.grid = start.grid
        self.unit = start.grid.unit
        weight = start.weight
        if start.steps is not None:
            weight = near_codes(weight, self.grid, start.steps)
        self.free = (weight / self.unit).requires_grad_()

    def learned(self) -> Sequence[Tensor]:
        return [self.free]

    def value(self) -> Tensor:
        return self.grid.rounded(self._position())

    @torch.no_grad()
    def steps(self) -> Tensor:
        return torch.round(self._position())

    def _position(self) -> Tensor:
        return self.grid.position(self.free * self.unit)
