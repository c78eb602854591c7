"""One draw of an augmentation: the same change for both streams of every input of a block."""

from collections.abc import Callable

import torch
from torch import Tensor

Change = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Of an input behind the quantized prefix and of the same in the float model, samples first."""
Draw = Callable[[int, float | None, torch.Generator], Change]
"""From the number of samples and the amount that the recipe gives."""


def in_both(change: Callable[[Tensor], Tensor]) -> Change:
    """Of a change that depends on neither stream."""
    return lambda quantized, plain: (change(quantized), change(plain))
