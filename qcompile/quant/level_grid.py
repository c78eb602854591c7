"""A grid of any levels: nearest codes, and back."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class LevelGrid:
    """The numbers ``scale * levels[code]``."""

    levels: Tensor
    """``[codes]``, in any order; NaN where there is no such code."""
    scale: Tensor
    """Broadcasts against the tensors in use; 0 only where all of them are zero."""

    def quantize(self, x: Tensor) -> Tensor:
        """Codes (int16) of the nearest levels; a tie goes to the even code."""
        values, codes = in_order(self.levels)
        if len(values) == 1:  # a codebook of one number, over and over
            return codes.expand(x.shape).contiguous()
        middles = (values[1:] + values[:-1]) / 2
        scaled = (x / torch.where(self.scale == 0, 1, self.scale)).contiguous()
        place = torch.searchsorted(middles, scaled)
        at_tie = middles[place.clamp(max=len(middles) - 1)] == scaled
        place += at_tie & (codes[place] % 2 == 1)
        return codes[place]

    def dequantize(self, codes: Tensor) -> Tensor:
        return self.levels[codes.long()] * self.scale


def in_order(levels: Tensor) -> tuple[Tensor, Tensor]:
    """Values that rise strictly, and the code of each; of two zeros the positive one."""
    codes = (~levels.isnan()).nonzero()[:, 0]
    values, order = levels[codes].sort(stable=True)
    codes = codes[order]
    first = torch.ones_like(values, dtype=torch.bool)
    first[1:] = values[1:] != values[:-1]
    return values[first].contiguous(), codes[first].to(torch.int16)


def level_table(levels: Tensor) -> tuple[Tensor, Tensor]:
    """Values ``[n]`` that rise, and ``[n - 1]`` edges: at most an edge is below the next value.

    In the middle of two values, or just under it where a tie goes up, to the even code.
    """
    values, codes = in_order(levels)
    middles = (values[1:] + values[:-1]) / 2
    under = torch.nextafter(middles, torch.full_like(middles, -torch.inf))
    return values, torch.where(codes[:-1] % 2 == 1, under, middles)


def nearest_level(ratio: Tensor, values: Tensor, edges: Tensor) -> Tensor:
    """Of a ``level_table``, for numbers in units of the scale; what is no number stays so."""
    found = values[torch.bucketize(ratio.contiguous(), edges)]
    return torch.where(ratio.isnan(), ratio, found)
