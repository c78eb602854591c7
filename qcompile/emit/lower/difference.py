"""By how much the outputs of two models differ."""

import math
from collections.abc import Iterator, Sequence
from functools import reduce

import torch
from torch import Tensor


def worst(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest difference of a pair; not a number where one is not."""
    pairs = [relative(a, b) for a, b in zip(found, expected, strict=True)]
    return reduce(larger, pairs, 0.0)


def larger(one: float, other: float) -> float:
    """What is not a number is more than any."""
    return other if math.isnan(other) or other > one else one


def relative(found: Tensor, expected: Tensor) -> float:
    """Root mean square of the difference over that of ``expected``; ``inf`` for other forms."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return math.inf
    if not expected.is_floating_point():
        return 0.0 if torch.equal(found, expected) else math.inf
    ours, theirs = found.double(), expected.double()
    same = ours == theirs  # infinities, which have no difference
    squares = torch.where(same, 0.0, ours - theirs).square().sum().item()
    size = torch.where(theirs.isfinite(), theirs, 0.0).square().sum().item()
    if squares == 0:
        return 0.0
    return math.sqrt(squares / size) if size else math.inf


def tensors_in(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from tensors_in(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from tensors_in(part)
