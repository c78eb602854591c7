"""Inputs that a stored graph takes, made up from the shapes and types that it carries."""

from collections.abc import Iterator

import torch
from torch import Tensor, fx

from qcompile.capture.node_meta import facts
from qcompile.emit.allowed import DTYPE_OF

FREE_SIZE = 8
"""Of a free axis other than the batch: a length of text, or the side of an image."""


def fresh_inputs(
    graph: fx.Graph, batch: int, generator: torch.Generator
) -> tuple[Tensor, ...] | None:
    """Standard normal numbers, or the integers 0 and 1, which index any table and mask anything.

    The first free axis of the first input is the batch. ``None`` where the shape of an input is
    not known, or is an expression of others.
    """
    made: list[Tensor] = []
    sizes: dict[str, int] = {}
    for node in graph.find_nodes(op="placeholder"):
        known = facts(node)
        dtype = DTYPE_OF.get(known.dtype or "")
        if known.shape is None or dtype is None:
            return None
        shape = tuple(_sizes(known.shape, sizes, batch))
        if 0 in shape:
            return None
        if dtype.is_floating_point:
            made.append(torch.randn(shape, generator=generator).to(dtype))
        else:
            made.append(torch.randint(0, 2, shape, generator=generator).to(dtype))
    return tuple(made)


def _sizes(shape: tuple[int | str, ...], known: dict[str, int], batch: int) -> Iterator[int]:
    """Yield 0 for what is not a number or a symbol."""
    for size in shape:
        if isinstance(size, int):
            yield size
        elif size.isidentifier():
            yield known.setdefault(size, FREE_SIZE if known else batch)
        else:
            yield 0
