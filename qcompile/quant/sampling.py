"""A bounded, deterministic sample of an activation with its true range."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd, prod

import torch
from torch import Tensor

LIMIT = 1 << 17
"""Elements that the error search looks at, over all batches."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Float32 ``values [rows, n]``, one row a channel or one in all.

    ``low`` and ``high`` ``[rows, 1]`` are over every element, not only the sampled ones.
    """

    values: Tensor
    low: Tensor
    high: Tensor


def sample(batches: Sequence[Tensor], axis: int | None, limit: int = LIMIT) -> Sample:
    """Rows of a value over ``batches``: one row, or one for each index of ``axis``."""
    stride = max(-(-sum(batch.numel() for batch in batches) // limit), 1)
    taken: list[Tensor] = []
    lows: list[Tensor] = []
    highs: list[Tensor] = []
    for batch in batches:
        rows = batch.reshape(1, -1) if axis is None else batch.movedim(axis, 0).flatten(1)
        if rows.numel() == 0:
            continue
        low, high = rows.aminmax(dim=1, keepdim=True)
        lows.append(low)
        highs.append(high)
        taken.append(rows[:, :: _coprime(stride, tuple(batch.shape))].to(torch.float32))
    if not taken:
        raise ValueError("no element to take a range from")
    return Sample(
        torch.cat(taken, dim=1),
        torch.cat(lows, dim=1).amin(dim=1, keepdim=True).to(torch.float32),
        torch.cat(highs, dim=1).amax(dim=1, keepdim=True).to(torch.float32),
    )


def _coprime(stride: int, shape: tuple[int, ...]) -> int:
    """The least stride from ``stride`` up that shares no factor with any axis.

    A stride of 64 over 384 channels would look at six of them only.
    """
    size = prod(shape)
    while gcd(stride, size) > 1:
        stride += 1
    return stride
