"""A box of another sample in place of one's own (Yun et al., 1905.04899).

The box lies in the positions of the input: ``[n, channels, height, width]`` has two axes of them,
``[n, tokens, features]`` one; a plain vector ``[n, features]`` has its features.
"""

import torch
from torch import Tensor

from qcompile.quant.augments.change import Change, in_both


def cutmix(samples: int, amount: float | None, generator: torch.Generator) -> Change:
    """The box covers a share of the positions that is uniform in [0, 1], before it is clipped."""
    device = generator.device
    partner = torch.randperm(samples, generator=generator, device=device)
    share, *centre = torch.rand(4, generator=generator, device=device).tolist()

    def change(x: Tensor) -> Tensor:
        axes = _positions(x)
        inside = torch.ones((), dtype=torch.bool, device=x.device)
        for axis, middle in zip(axes, centre, strict=False):
            size = x.shape[axis]
            half = size * share ** (1 / len(axes)) / 2
            place = torch.arange(size, device=x.device) + 0.5
            within = (place - middle * size).abs() <= half
            inside = inside & within.view(-1, *[1] * (x.dim() - axis - 1))
        return torch.where(inside, x[partner], x)

    return in_both(change)


def _positions(x: Tensor) -> tuple[int, ...]:
    """The axes in which the box lies; at most three (video)."""
    return tuple(range(2, min(x.dim(), 5))) if x.dim() > 3 else (1,)
