"""A rotation of the last axis that spreads outliers over their neighbours.

Each stretch of ``block`` neighbours is multiplied by ``R = S H S / sqrt(block)``, with Sylvester's
Hadamard matrix ``H_ij = (-1)^|i and j|`` and signs ``S_ii = (-1)^(b0 b1 + b2 b3 + ..)`` of the bits
of ``i``: orthogonal and symmetric, so that it undoes itself. Without the signs the first row would
gather the mean of a stretch, which is large behind an activation function; a bent function such as
this has no row of ``H`` near it, and spreads the mean as evenly as an outlier.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qcompile.policy.rotation import LARGEST_BLOCK, is_block


@cache
def _table(block: int) -> NDArray[np.float32]:
    """``sqrt(block) R``: 1 and -1, which every floating-point type holds."""
    place = np.arange(block)
    bent = _parity(place & (place >> 1) & 0x5555)
    parity = _parity(place[:, None] & place) ^ bent[:, None] ^ bent
    return (1 - 2 * parity).astype(np.float32)


def _parity(numbers: NDArray[np.int_]) -> NDArray[np.int_]:
    """Whether an odd number of bits is set, of numbers of 16 bits."""
    for shift in (8, 4, 2, 1):
        numbers = numbers ^ (numbers >> shift)
    return numbers & 1


def signs(block: int) -> Tensor:
    """``sqrt(block) R`` ``[block, block]`` in float32, on the CPU. Raises ``ValueError``."""
    if type(block) is not int or not is_block(block):  # a file may ask for anything
        raise ValueError(f"a block is a power of two up to {LARGEST_BLOCK}, not {block}")
    return torch.from_numpy(_table(block))


class BlockRotation(nn.Module):
    """A leaf of captured graphs; it has no tensors of its own that would have to be stored."""

    def __init__(self, features: int, block: int) -> None:
        super().__init__()
        self.signs = signs(block)
        if type(features) is not int or features < 1 or features % block:
            raise ValueError(f"{features} features are no blocks of {block}")
        self.features = features
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """``[.., features]`` to the same shape, type and device."""
        stretches = x.unflatten(-1, (self.features // self.block, self.block))
        return (stretches @ self.signs.to(x)).mul(self.block**-0.5).flatten(-2)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "BlockRotation":
        """The table goes where the model goes."""
        super()._apply(fn, recurse)
        self.signs = fn(self.signs)
        return self


def rotated(x: Tensor, block: int) -> Tensor:
    """``x R`` of ``[rows, features]`` in float64."""
    rows, features = x.shape
    table = signs(block).double().to(x.device)
    turned = x.double().reshape(rows, features // block, block) @ table
    return turned.reshape(rows, features) * block**-0.5
