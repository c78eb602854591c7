"""FlexRound's division (2306.00317): ``round(w / (s e^D))``, a factor for each weight, row, column.

The gradient by ``D`` grows with the weight, so that large weights move more easily, and further.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from qcompile.quant.variables.variable import Start, Variable, near_codes


class Division(Variable):
    """``D`` is the sum of the logarithms of the three factors, all zero for nearest rounding.

    A column is what shares its place in all of the first axis of the view.
    """

    def __init__(self, start: Start) -> None:
        self.grid, self.weight = start.grid, start.weight
        each = torch.zeros_like(self.weight)
        if start.steps is not None:
            ratio = self.weight / near_codes(self.weight, self.grid, start.steps)
            # a factor changes no sign and moves no zero: there the start is nearest rounding
            each = torch.where((ratio > 0) & ratio.isfinite(), ratio, torch.ones_like(ratio)).log()
        self.each = each.requires_grad_()
        self.row = torch.zeros_like(self.weight[..., :1]).requires_grad_()
        self.column = torch.zeros_like(self.weight[:1]).requires_grad_()

    def learned(self) -> Sequence[Tensor]:
        return [self.each, self.row, self.column]

    def value(self) -> Tensor:
        return self.grid.rounded(self._position())

    @torch.no_grad()
    def steps(self) -> Tensor:
        return torch.round(self._position())

    def _position(self) -> Tensor:
        return self.grid.position(self.weight * (-(self.each + self.row + self.column)).exp())
