"""Weighted means of two samples each (Zhang et al., 1710.09412), the weight uniform in [0, 1].

Targets are never mixed: they are what the float block gives for the mixed input.
"""

import torch
from torch import Tensor

from qcompile.quant.augments.change import Change, in_both


def mixup(samples: int, amount: float | None, generator: torch.Generator) -> Change:
    device = generator.device
    partner = torch.randperm(samples, generator=generator, device=device)
    share = torch.rand(samples, generator=generator, device=device)

    def change(x: Tensor) -> Tensor:
        own = share.to(x.dtype).view(-1, *[1] * (x.dim() - 1))
        return own * x + (1 - own) * x[partner]

    return in_both(change)
