"""No variable: the codes of the start, where only the grid or what lies beside it is learned."""

import torch
from torch import Tensor

from qcompile.quant.variables.variable import Start, Variable


class Fixed(Variable):
    def __init__(self, start: Start) -> None:
        self.grid = start.grid
        nearest = torch.round(self.grid.position(start.weight).detach())
        steps = nearest if start.steps is None else start.steps
        self.whole = self.grid.position_of(self.grid.codes(steps))

    def learned(self) -> list[Tensor]:
        return []

    def value(self) -> Tensor:
        return self.grid.at(self.whole)

    def steps(self) -> Tensor:
        return self.whole
