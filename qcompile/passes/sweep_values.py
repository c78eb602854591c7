"""Values of graph nodes: tensors, or tuples, lists and dicts of them, or plain numbers."""

from collections.abc import Callable, Iterator, Mapping
from typing import cast

import torch
from torch import Tensor

Value = object
"""What a node returns. Sizes, masks and flags travel beside the activations."""


def tensors_in(value: Value) -> Iterator[Tensor]:
    """All tensors of a value, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in cast("list[Value]", value):
            yield from tensors_in(item)
    elif isinstance(value, dict):
        for item in cast("dict[str, Value]", value).values():
            yield from tensors_in(item)


def map_tensors(value: Value, change: Callable[[Tensor], Tensor]) -> Value:
    """The same value with each tensor changed; other tuples become plain ones."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, torch.Size):
        return value
    if isinstance(value, tuple):
        return tuple(map_tensors(item, change) for item in cast("tuple[Value, ...]", value))
    if isinstance(value, list):
        return [map_tensors(item, change) for item in cast("list[Value]", value)]
    if isinstance(value, dict):
        items = cast("dict[str, Value]", value).items()
        return {key: map_tensors(item, change) for key, item in items}
    return value


def floats_in(values: list[Value]) -> list[Tensor]:
    """The floating-point tensors of a node's values over all batches."""
    return [item for value in values for item in tensors_in(value) if item.is_floating_point()]


def relative_error(found: list[Tensor], wanted: list[Tensor]) -> float | None:
    """``sum |found - wanted|^2 / sum |wanted|^2``; ``None`` where all that is wanted is zero."""
    distance = power = 0.0
    for a, b in zip(found, wanted, strict=True):
        # half precision would overflow in the squares
        wide = torch.promote_types(b.dtype, torch.float32)
        # float32 sums are pairwise: exact to 1e-7, and three times as fast as float64
        distance += float((a.to(wide) - b.to(wide)).square_().sum())
        power += float(b.to(wide).square().sum())
    return distance / power if power else None


def batch_size(batch: Mapping[str, Value]) -> int:
    """Samples of a batch."""
    first = next(tensor for value in batch.values() for tensor in tensors_in(value))
    return first.shape[0] if first.dim() else 1
