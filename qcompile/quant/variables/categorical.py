"""A softmax over four neighbouring codes, cooled until one of them has it all (GSQ, 2604.18556).

Without Gumbel noise: a full batch or a guard decides better than luck. The soft weight is the mean
of the neighbours, on grids of any levels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from qcompile.quant.variables.variable import Start, Variable, temperature

BELOW, NEIGHBOURS = 1, 4
"""Candidates are the codes ``floor - 1 .. floor + 2``."""
OUTER = 0.01
"""Probability of each of the two outer ones at the start."""
CERTAIN = 0.9
"""Of the preferred code, where codes are given to start from."""
ENDS = (1.0, 0.002)
"""Temperatures. The last is so low that steps of the optimizer leave no mixture standing."""
TOLERANCE = 0.05


class Categorical(Variable):
    has_gap = True

    def __init__(self, start: Start) -> None:
        self.grid, self.tuning = start.grid, start.tuning
        position = self.grid.position(start.weight).detach()
        if start.steps is None:
            self.first = torch.floor(position) - BELOW
            up = (position - torch.floor(position)).clamp(2 * OUTER, 1 - 2 * OUTER) - OUTER
            outer = torch.full_like(up, OUTER)
            chances = torch.stack([outer, 1 - 2 * OUTER - up, up, outer])
        else:
            self.first = start.steps - BELOW
            chances = torch.full((NEIGHBOURS, *position.shape), (1 - CERTAIN) / (NEIGHBOURS - 1))
            chances = chances.to(position)
            chances[BELOW] = CERTAIN
        self.logits = (chances.log() * ENDS[0]).requires_grad_()
        self._temperature = ENDS[0]

    def learned(self) -> Sequence[Tensor]:
        return [self.logits]

    def prepare(self, step: int) -> None:
        self._temperature = temperature(step, self.tuning, ENDS)

    def value(self) -> Tensor:
        """Of codes beyond the last ones each stands for the last."""
        chances = torch.softmax(self.logits / self._temperature, 0)
        parts = (chances[place] * self.grid.at(self.first + place) for place in range(NEIGHBOURS))
        return torch.stack(list(parts)).sum(0)

    def steps(self) -> Tensor:
        return self.first + self.logits.detach().argmax(0)

    @property
    def soft_share(self) -> float:
        chances = torch.softmax(self.logits.detach() / self._temperature, 0)
        return float((chances.amax(0) < 1 - TOLERANCE).double().mean())
