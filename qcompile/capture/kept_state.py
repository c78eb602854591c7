"""Leave a model as it was, whatever its ``forward`` writes down in it."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import TypeAlias, cast

import torch
from torch import Tensor, nn

_Contents: TypeAlias = "dict[object, object] | list[object]"


@contextmanager
def kept_state(model: nn.Module) -> Generator[None]:
    """Undo assignments to attributes, to lists and dicts among them, and writes to buffers."""
    attributes = [(vars(module), dict(vars(module))) for module in model.modules()]
    containers = [
        (value, value.copy())
        for _, held in attributes
        for value in held.values()
        if isinstance(value, dict | list)
    ]
    values = [(buffer, buffer.clone()) for buffer in model.buffers() if not buffer.is_meta]
    try:
        yield
    finally:
        for now, before in attributes:
            now.clear()
            now.update(before)
        for container, before in containers:
            _refill(cast("_Contents", container), cast("_Contents", before))
        _rewrite(values)


def _refill(container: _Contents, contents: _Contents) -> None:
    container.clear()
    if isinstance(container, dict):
        container.update(cast("dict[object, object]", contents))
    else:
        container.extend(contents)


def _rewrite(values: list[tuple[Tensor, Tensor]]) -> None:
    with torch.no_grad():
        for buffer, value in values:
            if not torch.equal(buffer, value):
                buffer.copy_(value)
