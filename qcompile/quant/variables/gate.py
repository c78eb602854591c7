"""AdaRound's gate (2004.10568): each weight between two fixed neighbours, rectified sigmoid.

The regulariser that closes the gates is in units of the loss, so that one strength suits layers of
any size and losses of any scale: ``hardening / 2`` times the root mean square of the gradient by a
gate, measured in the last quarter of the warm-up.
"""

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from qcompile.quant.rounding_gate import (
    GAMMA,
    ZETA,
    BetaSchedule,
    SoftRound,
    gate,
    hard_steps,
    initial_variable,
    soft_share,
    variable_towards,
)
from qcompile.quant.variables.variable import Start, Variable

MEASURED = 0.75
"""Share of the warm-up before the gradient is measured."""


class Gate(Variable):
    """The lower neighbours stay those of the grid at the start, also where the grid moves.

    That is the frozen base of Genie (2212.04780), without which a moving scale makes jumps.
    """

    has_gap = True

    def __init__(self, start: Start) -> None:
        self.grid = start.grid
        tuning = start.tuning
        self.schedule = BetaSchedule(
            tuning.steps, tuning.warmup, tuning.beta_start, tuning.beta_end
        )
        self.hardening = tuning.hardening
        self.warm = math.ceil(tuning.warmup * tuning.steps)
        position = start.grid.position(start.weight).detach()
        self.floor = start.grid.floor(position)
        if start.steps is None:
            self.variable = initial_variable(position, self.floor).requires_grad_()
        else:
            # a code outside the two neighbours becomes one of the pair that is nearest to it
            lower = torch.maximum(torch.minimum(self.floor, start.steps), start.steps - 1)
            self.floor = start.grid.floor(lower)
            self.variable = variable_towards(start.steps, self.floor).requires_grad_()
        self.strength = 0.0
        self._given = start.strength
        self._moves = start.moves
        self._beta = self.schedule.start
        self._gradient_square = 0.0
        self._measured = 0

    def learned(self) -> Sequence[Tensor]:
        return [self.variable]

    def prepare(self, step: int) -> None:
        self._beta = self.schedule.at(step)

    def observe(self, step: int) -> None:
        """Measure while the regulariser is off; then turn it on."""
        if MEASURED * self.warm <= step < max(self.warm, 1):
            self._measure()
        if step == max(self.warm - 1, 0):
            mean = self._gradient_square / max(self._measured, 1)
            measured = self.hardening * mean**0.5 / 2
            self.strength = measured if self._given is None else self._given

    def value(self) -> Tensor:
        """Its gradient includes the regulariser's."""
        cell = self.grid.cell(self.floor)
        soft = cast(
            "Tensor",
            SoftRound.apply(
                self.variable,
                cell.floor,
                cell.scale,
                cell.zero_point,
                cell.limits,
                self.strength,
                self._beta,
            ),
        )
        return soft if cell.offset is None else cell.offset + soft

    def steps(self) -> Tensor:
        return hard_steps(self.variable.detach(), self.floor)

    @property
    def soft_share(self) -> float:
        return soft_share(self._moving(self.variable.detach()))

    def _moving(self, values: Tensor) -> Tensor:
        return values if self._moves is None else values[self._moves]

    def _measure(self) -> None:
        grad = self.variable.grad
        if grad is None:
            return
        sigmoid = torch.sigmoid(self.variable.detach())
        slope = sigmoid * (1 - sigmoid) * (ZETA - GAMMA)
        live = (gate(self.variable.detach()) > 0) & (gate(self.variable.detach()) < 1)
        by_gate = torch.where(live, grad / slope, torch.zeros_like(grad))
        self._gradient_square += float(self._moving(by_gate).square().mean())
        self._measured += 1
