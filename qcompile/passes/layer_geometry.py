"""How a node multiplies its input by its weight, for solvers that work on rows."""

from typing import cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from qcompile.capture.operations import bare_name
from qcompile.passes.sweep_node import attribute
from qcompile.quant.geometry import Convolution, Dense, Geometry


def layer_geometry(module: fx.GraphModule, node: fx.Node, output_axis: int) -> Geometry | None:
    """``None`` where the input is not a matrix of rows: an embedding, a transposed convolution."""
    if node.op == "call_module":
        leaf = module.get_submodule(str(node.target))
        if isinstance(leaf, nn.Linear):
            return Dense()
        if isinstance(leaf, nn.Conv1d | nn.Conv2d | nn.Conv3d) and leaf.padding_mode == "zeros":
            return _convolution(leaf)
        return None
    if node.target is F.linear:
        return Dense()
    # mm, addmm and the like with the parameter second: [in, out]
    return Dense(transposed=True) if output_axis == 1 else None


def layer_bias(
    module: fx.GraphModule, node: fx.Node, geometry: Geometry | None, device: torch.device
) -> Tensor | None:
    """What the layer adds to its products, in a shape that broadcasts to its output."""
    if node.op == "call_module":
        bias = getattr(module.get_submodule(str(node.target)), "bias", None)
    else:
        bias = _functional_bias(module, node)
    if not isinstance(bias, Tensor):
        return None
    trailing = len(geometry.kernel) if isinstance(geometry, Convolution) else 0
    return bias.detach().to(device).reshape(-1, *[1] * trailing)


def _functional_bias(module: fx.GraphModule, node: fx.Node) -> object:
    """Of ``F.linear(x, w, b)`` and of ``torch.addmm(b, x, w)``."""
    place = {"linear": 2, "addmm": 0}.get(bare_name(node))
    if place is None:
        return None
    given = node.args[place] if len(node.args) > place else node.kwargs.get("bias")
    if not isinstance(given, fx.Node) or given.op != "get_attr":
        return None
    return attribute(module, str(given.target))


def _convolution(leaf: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> Convolution:
    return Convolution(
        kernel=tuple(leaf.kernel_size),
        stride=tuple(leaf.stride),
        padding=_padding(leaf),
        dilation=tuple(leaf.dilation),
        groups=leaf.groups,
    )


def _padding(leaf: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> tuple[tuple[int, int], ...]:
    if leaf.padding == "valid":
        return tuple((0, 0) for _ in leaf.kernel_size)
    if leaf.padding == "same":
        spans = (
            dilation * (size - 1)
            for dilation, size in zip(leaf.dilation, leaf.kernel_size, strict=True)
        )
        return tuple((span // 2, span - span // 2) for span in spans)
    return tuple((size, size) for size in cast("tuple[int, ...]", leaf.padding))
