"""A batch is a tensor, a tuple or a dict of tensors, with the batch as first dimension of each."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias, cast

import torch
from torch import Tensor

from qcompile.data.weights import tensor_bytes

Batch: TypeAlias = Tensor | tuple[Tensor, ...] | dict[str, Tensor]


def as_batch(value: object) -> Batch | None:
    """``value`` as a batch; lists become tuples and mappings dicts. ``None`` if it is none."""
    match value:
        case Tensor():
            return value
        case list() | tuple():
            items = cast("Sequence[object]", value)
            tensors = tuple(item for item in items if isinstance(item, Tensor))
            return tensors if tensors and len(tensors) == len(items) else None
        case Mapping():
            pairs = cast("Mapping[object, object]", value).items()
            named = {k: v for k, v in pairs if isinstance(k, str) and isinstance(v, Tensor)}
            return named if named and len(named) == len(pairs) else None
        case _:
            return None


def named_tensors(batch: Batch) -> list[tuple[str, Tensor]]:
    """Every tensor with its key or position, in order."""
    match batch:
        case Tensor():
            return [("0", batch)]
        case tuple():
            return [(str(position), tensor) for position, tensor in enumerate(batch)]
        case dict():
            return list(batch.items())


def rows(batch: Batch) -> int:
    """Samples in the batch; ``row_problem`` says whether its tensors agree on it."""
    return named_tensors(batch)[0][1].shape[0]


def row_problem(batch: Batch) -> str | None:
    """Why ``batch`` has no first dimension in common, to be put after *the data*."""
    shapes = {name: tensor.shape for name, tensor in named_tensors(batch)}
    flat = [name for name, shape in shapes.items() if not shape]
    if flat:
        return f"has a tensor without dimensions: `{flat[0]}`"
    if len({shape[0] for shape in shapes.values()}) > 1:
        listed = ", ".join(f"`{name}` {list(shape)}" for name, shape in shapes.items())
        return f"has tensors with different first dimensions: {listed}"
    return None


def split_off(batch: Batch, name: str | None) -> tuple[Batch, Tensor | None]:
    """What goes into the model, and what does not.

    ``name`` is the key in a dict; in a tuple the last element has that name, whatever it is.
    """
    if name is None:
        return batch, None
    match batch:
        case Tensor():
            return batch, None
        case tuple():
            return (batch[:-1], batch[-1]) if len(batch) > 1 else (batch, None)
        case dict():
            return {k: v for k, v in batch.items() if k != name}, batch.get(name)


def model_arguments(batch: Batch) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """Positional and keyword arguments of the model for a batch without labels."""
    match batch:
        case Tensor():
            return (batch,), {}
        case tuple():
            return batch, {}
        case dict():
            return (), batch


def map_tensors(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    match batch:
        case Tensor():
            return change(batch)
        case tuple():
            return tuple(change(tensor) for tensor in batch)
        case dict():
            return {name: change(tensor) for name, tensor in batch.items()}


def slice_rows(batch: Batch, start: int, stop: int) -> Batch:
    """A view."""
    return map_tensors(batch, lambda tensor: tensor[start:stop])


def take_rows(batch: Batch, indices: Sequence[int]) -> Batch:
    """A copy of the rows at ``indices``, in that order."""
    chosen = torch.tensor(indices, dtype=torch.int64)
    return map_tensors(batch, lambda tensor: tensor.index_select(0, chosen.to(tensor.device)))


def join_problem(batches: Sequence[Batch]) -> str | None:
    """Why the batches are not parts of one, to be put after *the data*."""
    first = _sample_shapes(batches[0])
    for batch in batches[1:]:
        other = _sample_shapes(batch)
        if other.keys() != first.keys():
            return f"has batches with different tensors: {_keys(first)} and {_keys(other)}"
        for name, shape in first.items():
            if other[name] != shape:
                return f"has samples of different shapes in `{name}`: {shape} and {other[name]}"
    return None


def join(batches: Sequence[Batch]) -> Batch:
    """One batch with the rows of all; ``join_problem`` is ``None`` for them."""
    parts = [dict(named_tensors(batch)) for batch in batches]
    joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    match batches[0]:
        case Tensor():
            return joined["0"]
        case tuple():
            return tuple(joined.values())
        case dict():
            return joined


def content_sha256(batch: Batch) -> str:
    """Over name, type, shape and bytes of every tensor, in the order of the names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(named_tensors(batch), key=lambda item: item[0]):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor_bytes(tensor))
    return digest.hexdigest()


def _sample_shapes(batch: Batch) -> dict[str, list[int]]:
    return {name: list(tensor.shape[1:]) for name, tensor in named_tensors(batch)}


def _keys(shapes: Mapping[str, object]) -> str:
    return ", ".join(f"`{name}`" for name in shapes)
