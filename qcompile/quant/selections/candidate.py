"""What a selection looks at: the weights of one layer, before any of them has moved."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """All of one shape, or of one that broadcasts to it."""

    weight: Tensor
    position: Tensor
    """In codes: whole where a weight is on the grid."""
    input_size: Tensor
    """Root mean square of the input that a weight multiplies; 1 where that is not known."""
    generator: torch.Generator


Score = Callable[[Candidate], Tensor]
"""The higher, the sooner a weight may move."""
