"""The rounding gate of AdaRound: each weight is rounded down plus a learned amount in [0, 1].

Nagel et al., 2004.10568, equations 21 to 25. The gate is
``h(V) = clip(sigmoid(V) (zeta - gamma) + gamma, 0, 1)``;
the regulariser ``1 - |2 h - 1| ** beta`` pushes every gate to 0 or 1 as ``beta`` falls.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

ZETA = 1.1
GAMMA = -0.1
INSET = 0.01
"""Fractions are kept this far from 0 and 1: a gate that starts saturated has no gradient."""


def gate(variable: Tensor) -> Tensor:
    """Rectified sigmoid; 0 or 1 exactly where ``|variable| >= ln 11``."""
    return (torch.sigmoid(variable) * (ZETA - GAMMA) + GAMMA).clamp(0, 1)


def gate_inverse(fraction: Tensor) -> Tensor:
    """The variable whose gate is ``fraction`` in [0, 1]."""
    return -torch.log((ZETA - GAMMA) / (fraction - GAMMA) - 1)


def initial_variable(ratio: Tensor, floor: Tensor) -> Tensor:
    """The variable at which the soft weight is ``ratio`` steps (up to ``INSET``)."""
    return gate_inverse((ratio - floor).clamp(INSET, 1 - INSET))


def variable_towards(steps: Tensor, floor: Tensor) -> Tensor:
    """Start from codes: the gate is 0.9 or 0.1 towards ``steps`` (codes without zero point)."""
    return gate_inverse(torch.where(steps > floor, 0.9, 0.1).to(floor.dtype))


def regulariser(variable: Tensor, beta: float) -> Tensor:
    """``1 - |2 h - 1| ** beta`` for each weight: 0 when hard, near 1 when undecided."""
    return 1 - (2 * gate(variable) - 1).abs() ** beta


@dataclass(frozen=True, slots=True)
class BetaSchedule:
    """``beta`` stays at ``start`` during warm-up, then falls linearly to ``end``."""

    steps: int
    warmup: float = 0.2
    start: float = 20.0
    end: float = 2.0

    def at(self, step: int) -> float:
        begin = self.warmup * self.steps
        if step <= begin:
            return self.start
        return self.start + (self.end - self.start) * (step - begin) / (self.steps - begin)

    def is_warm(self, step: int) -> bool:
        """The regulariser is on."""
        return step >= self.warmup * self.steps


class SoftRound(torch.autograd.Function):
    """``scale * (clip(floor + h(V) + zero_point, qmin, qmax) - zero_point)``, gradient by hand.

    The gradient of ``strength * sum(regulariser(V, beta))`` is added in the same pass, from the
    same sigmoid: by autograd the regulariser costs more than the rounding. ``strength`` 0 turns
    it off. A grid that is learned gets its gradient too, ``floor`` none (Genie, 2212.04780).
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        variable: Tensor,
        floor: Tensor,
        scale: Tensor,
        zero_point: Tensor,
        limits: tuple[int, int],
        strength: float,
        beta: float,
    ) -> Tensor:
        sigmoid = torch.sigmoid(variable)
        opened = (sigmoid * (ZETA - GAMMA) + GAMMA).clamp(0, 1)
        unclipped = floor + opened + zero_point
        codes = unclipped.clamp(*limits)
        steps = codes - zero_point
        moves = any(ctx.needs_input_grad[2:4])  # pyright: ignore[reportAttributeAccessIssue]
        inside = codes == unclipped
        ctx.save_for_backward(sigmoid, opened, inside, scale, steps if moves else None)  # pyright: ignore[reportArgumentType]
        ctx.regularisation = (strength, beta)  # pyright: ignore[reportAttributeAccessIssue]
        return scale * steps

    @staticmethod
    def backward(ctx: FunctionCtx, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grad_outputs
        sigmoid, opened, inside, scale, steps = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        strength, beta = ctx.regularisation  # pyright: ignore[reportAttributeAccessIssue]
        slope = grad * scale * inside
        by_scale = by_zero_point = None
        if steps is not None:
            by_scale = (grad * steps).sum_to_size(scale.shape)
            by_zero_point = (slope - grad * scale).sum_to_size(scale.shape)
        if strength:
            centred = 2 * opened - 1
            power = centred.abs() ** (beta - 1)
            slope = slope - (2 * strength * beta) * power * centred.sign()
        live = (opened > 0) & (opened < 1)
        slope = slope * sigmoid * (1 - sigmoid) * (ZETA - GAMMA)
        gates = torch.where(live, slope, torch.zeros_like(slope))
        return gates, None, by_scale, by_zero_point, None, None, None


def hard_steps(variable: Tensor, floor: Tensor) -> Tensor:
    """Codes without zero point after the gates are closed: up exactly where ``V >= 0``."""
    return floor + (variable >= 0).to(floor.dtype)


def soft_share(variable: Tensor, tolerance: float = 0.05) -> float:
    """Share of gates that are neither closed nor open; above 1% hardening changes the result."""
    opened = gate(variable)
    return float(((opened > tolerance) & (opened < 1 - tolerance)).double().mean())
