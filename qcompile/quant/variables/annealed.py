"""Soft rounding of a free weight whose steps get steeper: a tanh that is cooled (DSQ, 1908.05033).

``floor(p) + 1/2 + tanh((frac(p) - 1/2) / T) / (2 tanh(1 / (2 T)))`` is the identity for large ``T``
and rounding for small; it is continuous at every ``T``, so that a weight may cross codes.
"""

from math import tanh

import torch
from torch import Tensor

from qcompile.quant.variables.variable import Start, temperature
from qcompile.quant.variables.weight import DirectWeight

ENDS = (2.0, 0.0005)
"""Temperatures. At the last, 0.15% of evenly spread positions are further than 5% from a code."""
TOLERANCE = 0.05


class Annealed(DirectWeight):
    has_gap = True

    def __init__(self, start: Start) -> None:
        super().__init__(start)
        self.tuning = start.tuning
        self._temperature = ENDS[0]

    def prepare(self, step: int) -> None:
        self._temperature = temperature(step, self.tuning, ENDS)

    def value(self) -> Tensor:
        return self.grid.at(soft_round(self._position(), self._temperature))

    @property
    def soft_share(self) -> float:
        with torch.no_grad():
            soft = soft_round(self._position(), self._temperature)
            off = (soft - torch.round(soft)).abs()
        return float((off > TOLERANCE).double().mean())


def soft_round(position: Tensor, heat: float) -> Tensor:
    whole = torch.floor(position.detach())
    return whole + 0.5 + torch.tanh((position - whole - 0.5) / heat) / (2 * tanh(0.5 / heat))
