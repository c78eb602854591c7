"""Gaussian noise, in units of the standard deviation of the float input."""

import torch
from torch import Tensor

from qcompile.quant.augments.change import Change

AMOUNT = 0.1


def noise(samples: int, amount: float | None, generator: torch.Generator) -> Change:
    size = AMOUNT if amount is None else amount

    def change(quantized: Tensor, plain: Tensor) -> tuple[Tensor, Tensor]:
        drawn = torch.randn(plain.shape, generator=generator, device=plain.device)
        added = (size * plain.float().std(correction=0) * drawn).to(plain.dtype)
        return quantized + added, plain + added

    return change
