"""A rotation of the last axis that spreads outliers over their neighbours.

Each stretch of ``block`` neighbours is multiplied by Sylvester's Hadamard matrix over
``sqrt(block)``: orthogonal and symmetric, so that it undoes itself. (QuaRot, arXiv 2404.00456, puts
such products in front of layers; there they are random, and span the whole axis.)
"""

from functools import cache

import torch
from torch import Tensor, nn

LARGEST_BLOCK = 1024
"""Its matrix has 4 MB; a file may ask for no more."""


@cache
def hadamard(size: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """``[size, size]``, one tensor for all that ask. Raises ``ValueError``."""
    if not 2 <= size <= LARGEST_BLOCK or size & (size - 1):
        raise ValueError(f"a block is a power of two up to {LARGEST_BLOCK}, not {size}")
    two = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    found = two
    while len(found) < size:
        found = torch.kron(two, found)
    return (found / size**0.5).to(dtype)


class BlockRotation(nn.Module):
    """A leaf of captured graphs; it has no tensors of its own that would have to be stored."""

    def __init__(self, features: int, block: int) -> None:
        super().__init__()
        if features < 1 or features % block:
            raise ValueError(f"{features} features are no blocks of {block}")
        self.features = features
        self.block = block
        self.matrix = hadamard(block, torch.float32)

    def forward(self, x: Tensor) -> Tensor:
        """``[.., features]`` to the same shape, type and device."""
        matrix = hadamard(self.block) if x.dtype == torch.float64 else self.matrix
        stretches = x.unflatten(-1, (self.features // self.block, self.block))
        return (stretches @ matrix.to(x)).flatten(-2)
