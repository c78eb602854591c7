"""Inputs that a graph accepts, from what its capture knows of them."""

from collections.abc import Mapping

import torch
from torch import Tensor, fx

from qcompile.capture.node_meta import facts
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.emit.allowed import DTYPE_OF

FREE_SIZES = (5, 7, 11, 13)
"""For the free sizes after the batch; distinct, so that no two are taken for one."""


def example_inputs(
    module: fx.GraphModule, batch: int, generator: torch.Generator
) -> tuple[Tensor, ...] | list[Diagnostic]:
    """Normal numbers; ones where the input is of integers: a valid index and a mask alike.

    The first free size is the batch.
    """
    sizes: dict[str, int] = {}
    made: list[Tensor] = []
    for node in placeholders(module):
        known = facts(node)
        if known.shape is None or known.dtype is None or known.dtype not in DTYPE_OF:
            return [unknown_input(node.name, "is not a tensor")]
        for size in known.shape:
            if isinstance(size, str) and not size.isidentifier():
                return [unknown_input(node.name, f"has the size `{size}`, which follows another")]
            if isinstance(size, str) and size not in sizes:
                sizes[size] = (batch, *FREE_SIZES)[min(len(sizes), len(FREE_SIZES))]
        shape = _numbers(known.shape, sizes)
        dtype = DTYPE_OF[known.dtype]
        if dtype.is_floating_point:
            made.append(torch.randn(shape, generator=generator).to(dtype))
        else:
            made.append(torch.ones(shape, dtype=dtype))
    return tuple(made)


def free_dims(module: fx.GraphModule) -> tuple[dict[int, str], ...]:
    """For each input the axes whose size is free, with the symbol."""
    return tuple(
        {axis: size for axis, size in enumerate(facts(node).shape or ()) if isinstance(size, str)}
        for node in placeholders(module)
    )


def placeholders(module: fx.GraphModule) -> list[fx.Node]:
    return [node for node in module.graph.nodes if node.op == "placeholder"]


def unknown_input(name: str, why: str) -> Diagnostic:
    """QR552."""
    return Diagnostic(
        Code.EXPORT_INPUTS,
        f"the input `{name}` {why}",
        subject=name,
        help="give the model a fixed size there, or export to `onnx`, which needs no example",
    )


def _numbers(shape: tuple[int | str, ...], sizes: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(sizes[size] if isinstance(size, str) else size for size in shape)
