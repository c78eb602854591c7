"""The variables of a reconstruction: rounding gates of weights, step sizes of activations."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from qcompile.passes.block import Rounded, SolvedWeight
from qcompile.quant.activation_quantizer import ActivationQuantizer, static_axis
from qcompile.quant.fake_quantize import stored_grid
from qcompile.quant.grid import Grid
from qcompile.quant.grouping import Grouping, grouping
from qcompile.quant.lsq import LearnedStep, drop_mask, gradient_scale
from qcompile.quant.packing import unpack
from qcompile.quant.quantized_weight import QuantizedWeight, encode
from qcompile.quant.rounding_gate import (
    GAMMA,
    ZETA,
    SoftRound,
    gate,
    hard_steps,
    initial_variable,
    soft_share,
    variable_towards,
)

MayMove = Callable[[SolvedWeight, Grouping, Tensor], Tensor | None]
"""From a weight, its view and its positions in codes to a mask in the view; ``None``: all may."""


def all_may(solved: SolvedWeight, view: Grouping, position: Tensor) -> None:
    return None


class GatedWeight:
    """A weight between two neighbouring codes each; ``variable`` is learned, the grid is fixed."""

    def __init__(
        self, solved: SolvedWeight, *, from_codes: bool, may_move: MayMove = all_may
    ) -> None:
        """Start at the float weight, or leaning towards the codes that ``solved`` starts from.

        What may not move stays at these codes.
        """
        self.solved = solved
        spec, shape = solved.plan.spec, tuple(solved.weight.shape)
        self.view: Grouping = grouping(spec.granularity, shape, solved.plan.output_axis)
        start = solved.start.code
        if not isinstance(start, QuantizedWeight):
            raise ValueError(f"`{spec.format}` has no neighbours to choose between")
        self.grid = _grid_of(start, self.view)
        ratio = self.view.view(solved.weight.float()) / self.grid.scale
        self.floor = torch.floor(ratio)
        steps = _codes_of(start, self.view) - self.grid.zero_point
        self.kept_steps = steps
        self.moves = may_move(solved, self.view, ratio)
        if from_codes:
            # a code outside the two neighbours becomes one of the pair that is nearest to it
            self.floor = torch.maximum(torch.minimum(self.floor, steps), steps - 1)
            self.variable = variable_towards(steps, self.floor).requires_grad_()
        else:
            self.variable = initial_variable(ratio, self.floor).requires_grad_()
        self.strength = 0.0
        self._gradient_square = 0.0
        self._measured = 0

    def soft(self, beta: float) -> Tensor:
        """The weight with gates as open as they are; its gradient includes the regulariser's."""
        limits = (self.grid.qmin, self.grid.qmax)
        soft = cast(
            "Tensor",
            SoftRound.apply(
                self.variable,
                self.floor,
                self.grid.scale,
                self.grid.zero_point,
                limits,
                self.strength,
                beta,
            ),
        )
        if self.moves is not None:
            soft = torch.where(self.moves, soft, self.kept_steps * self.grid.scale)
        return self.view.restore(soft)

    def measure(self) -> None:
        """Note the gradient of the loss by the gates, while the regulariser is off."""
        grad = self.variable.grad
        assert grad is not None
        sigmoid = torch.sigmoid(self.variable.detach())
        slope = sigmoid * (1 - sigmoid) * (ZETA - GAMMA)
        live = (gate(self.variable.detach()) > 0) & (gate(self.variable.detach()) < 1)
        by_gate = torch.where(live, grad / slope, torch.zeros_like(grad))
        self._gradient_square += float(self._moving(by_gate).square().mean())
        self._measured += 1

    def harden(self, factor: float) -> None:
        """Turn the regulariser on: ``factor / 2`` times the measured gradient by a gate.

        In units of the loss, so that one factor suits layers of any size and loss of any scale.
        """
        mean = self._gradient_square / max(self._measured, 1)
        self.strength = factor * mean**0.5 / 2

    def hard(self) -> Rounded:
        """Codes after closing every gate to its nearer side."""
        steps = hard_steps(self.variable.detach(), self.floor)
        if self.moves is not None:
            steps = torch.where(self.moves, steps, self.kept_steps)
        codes = (steps + self.grid.zero_point).clamp(self.grid.qmin, self.grid.qmax)
        plan = self.solved.plan
        shape = tuple(self.solved.weight.shape)
        code = encode(codes.to(torch.int16), self.grid, plan.spec, shape, plan.output_axis)
        return Rounded(code, self.solved.start.beside)

    @property
    def soft_share(self) -> float:
        return soft_share(self._moving(self.variable.detach()))

    def _moving(self, values: Tensor) -> Tensor:
        return values if self.moves is None else values[self.moves]


@dataclass(eq=False)
class LearnedQuantizer:
    """An activation quantizer whose step size is learned, with QDrop's mixing while training."""

    start: ActivationQuantizer
    log_scale: Tensor | None
    """``None``: the range is found at run time, and there is nothing to learn."""
    keep_quantized: float
    generator: torch.Generator

    @classmethod
    def of(
        cls,
        start: ActivationQuantizer,
        *,
        learn: bool,
        keep_quantized: float,
        generator: torch.Generator,
    ) -> "LearnedQuantizer":
        log_scale = None if start.scale is None else start.scale.log().requires_grad_(learn)
        return cls(start, log_scale, keep_quantized, generator)

    def __call__(self, x: Tensor) -> Tensor:
        mask = drop_mask(x, self.keep_quantized, self.generator)
        if self.log_scale is None:
            quantized = x + (self.start(x) - x).detach()
            return quantized if mask is None else torch.where(mask, quantized, x)
        number = self.start.spec.integer
        zero_point = torch.zeros_like(self.log_scale)
        if self.start.zero_point is not None:
            zero_point = self.start.zero_point.to(x.dtype) + number.qmin
        axis = static_axis(self.start.spec)
        return cast(
            "Tensor",
            LearnedStep.apply(
                x.float(),
                _along(self.log_scale.exp(), x, axis),
                _along(zero_point, x, axis),
                (number.qmin, number.qmax),
                mask,
                gradient_scale(x.numel(), number.qmax),
            ),
        )

    def hard(self) -> ActivationQuantizer:
        if self.log_scale is None or not self.log_scale.requires_grad:
            return self.start
        scale = self.log_scale.detach().exp()
        return ActivationQuantizer(self.start.spec, scale, self.start.zero_point)


def _along(parameter: Tensor, x: Tensor, axis: int | None) -> Tensor:
    """``[1]`` as a scalar, ``[channels]`` so that it broadcasts along ``axis`` of ``x``."""
    if axis is None:
        return parameter.reshape(())
    shape = [1] * x.dim()
    shape[axis] = -1
    return parameter.reshape(shape)


def _grid_of(code: QuantizedWeight, view: Grouping) -> Grid:
    number = code.spec.integer
    shape = (view.outer, view.groups, 1)
    return stored_grid(code.scale, code.zero_point, number.qmin, number.qmax, shape)


def _codes_of(code: QuantizedWeight, view: Grouping) -> Tensor:
    count = 1
    for size in code.shape:
        count *= size
    codes = unpack(code.packed, code.spec.bits, count).reshape(code.shape)
    return view.view(codes.float() + code.spec.integer.qmin)
