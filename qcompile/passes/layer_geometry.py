"""How a node multiplies its input by its weight, for solvers that work on rows."""

from typing import cast

from torch import fx, nn
from torch.nn import functional as F

from qcompile.quant.gram import Convolution, Dense, Geometry


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
