"""Values of graph nodes: tensors, or tuples, lists and dicts of them, or plain numbers."""

from collections.abc import Callable, Iterator, Mapping
from typing import cast

import torch
from torch import Tensor

Value = object
"""What a node returns. Sizes, masks and flags travel beside the activations."""

PIECE = 1 << 24
"""Elements: more than most layers make of a batch."""


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


class Distance:
    """How far tensors are from those that are wanted, added up."""

    def __init__(self) -> None:
        self._squares = self._power = 0.0

    @property
    def relative(self) -> float | None:
        """``sum |found - wanted|^2 / sum |wanted|^2``; ``None`` where what is wanted is zero."""
        return self._squares / self._power if self._power else None

    def add(self, found: list[Tensor], wanted: list[Tensor]) -> None:
        for a, b in zip(found, wanted, strict=True):
            # half precision would overflow in the squares
            wide = torch.promote_types(b.dtype, torch.float32)
            for one, other in zip(_pieces(a), _pieces(b), strict=True):
                # float32 sums are pairwise: exact to 1e-7, and three times as fast as float64
                self._squares += float((one.to(wide) - other.to(wide)).square_().sum())
                self._power += float(other.to(wide).square().sum())


def _pieces(tensor: Tensor) -> Iterator[Tensor]:
    """Rows of at most ``PIECE`` elements, so that what is made of them is small."""
    if tensor.numel() <= PIECE or tensor.dim() == 0:
        return iter((tensor,))
    return iter(tensor.split(max(PIECE * len(tensor) // tensor.numel(), 1)))


def relative_error(found: list[Tensor], wanted: list[Tensor]) -> float | None:
    """``sum |found - wanted|^2 / sum |wanted|^2``; ``None`` where all that is wanted is zero."""
    distance = Distance()
    distance.add(found, wanted)
    return distance.relative


def batch_size(batch: Mapping[str, Value]) -> int:
    """Samples of a batch."""
    first = next(tensor for value in batch.values() for tensor in tensors_in(value))
    return first.shape[0] if first.dim() else 1
