"""Step sizes of activations while a block is learned."""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from qcompile.policy.number_format import IntFormat
from qcompile.quant.activation_quantizer import ActivationQuantizer, static_axis
from qcompile.quant.lsq import LearnedLevels, LearnedStep, drop_mask, gradient_scale


@dataclass(eq=False)
class LearnedQuantizer:
    """An activation quantizer whose step size is learned, with QDrop's mixing while training."""

    start: ActivationQuantizer
    log_scale: Tensor | None
    """``None``: the range is found at run time, and there is nothing to learn."""
    keep_quantized: float
    generator: torch.Generator
    table: tuple[Tensor, Tensor] | None = None
    """Of levels, once it was needed."""

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
        """In the type of ``x``; under autocast in float32, from which each product casts."""
        found = self._quantized(x)
        return found if torch.is_autocast_enabled(x.device.type) else found.to(x.dtype)

    def _quantized(self, x: Tensor) -> Tensor:
        mask = drop_mask(x, self.keep_quantized, self.generator)
        if self.log_scale is None:
            quantized = x + (self.start(x) - x).detach()
            return quantized if mask is None else torch.where(mask, quantized, x)
        axis = static_axis(self.start.spec)
        scale = _along(self.log_scale.exp(), x, axis)
        if not isinstance(self.start.spec.format, IntFormat):
            self.table = self.start.table(x.device) if self.table is None else self.table
            values, edges = self.table
            step = gradient_scale(x.numel(), int((values > 0).sum()))
            found = LearnedLevels.apply(x.float(), scale, values, edges, mask, step)
            return cast("Tensor", found)
        number = self.start.spec.integer
        zero_point = torch.zeros_like(self.log_scale)
        if self.start.zero_point is not None:
            zero_point = self.start.zero_point.to(x.dtype) + number.qmin
        return cast(
            "Tensor",
            LearnedStep.apply(
                x.float(),
                scale,
                _along(zero_point, x, axis),
                (number.qmin, number.qmax),
                mask,
                gradient_scale(x.numel(), number.qmax),
            ),
        )

    def hard(self) -> ActivationQuantizer:
        if self.log_scale is None or not self.log_scale.requires_grad:
            return self.start
        return self.start.with_scale(self.log_scale.detach().exp())


def _along(parameter: Tensor, x: Tensor, axis: int | None) -> Tensor:
    """``[1]`` as a scalar, ``[channels]`` so that it broadcasts along ``axis`` of ``x``."""
    if axis is None:
        return parameter.reshape(())
    shape = [1] * x.dim()
    shape[axis] = -1
    return parameter.reshape(shape)
