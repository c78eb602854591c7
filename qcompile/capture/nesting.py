"""Tensors inside tuples, lists and mappings."""

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import torch


def nested_items(value: object) -> Iterable[tuple[int | str, object]]:
    """The entries of a tuple, list or mapping by key; nothing for anything else."""
    if isinstance(value, Mapping):
        return cast("Mapping[str, object]", value).items()
    if isinstance(value, tuple | list):
        return enumerate(cast("Sequence[object]", value))
    return ()


def has_tensor(value: object) -> bool:
    if isinstance(value, torch.Tensor):
        return True
    return any(has_tensor(item) for _, item in nested_items(value))
