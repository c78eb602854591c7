"""How a node multiplies rows of inputs by its weight, where it does nothing else.

What is not listed here is left to rounding to nearest: a solver that took a call for a product that
it is not would fit numbers that have nothing to do with the layer.
"""

from dataclasses import dataclass
from typing import cast

from torch import Tensor, fx, nn

from qcompile.capture.node_meta import facts
from qcompile.capture.operations import bare_name
from qcompile.passes.sweep_node import attribute
from qcompile.quant.geometry import Convolution, Dense, Geometry


@dataclass(frozen=True, slots=True, eq=False)
class LayerForm:
    """``output = rows(input) @ W^T + bias``."""

    geometry: Geometry
    input: int
    """Which of the node's ``occurrences`` is multiplied."""
    bias: Tensor | None
    """``[out]``, as the model holds it."""

    def along_outputs(self, values: Tensor) -> Tensor:
        """``[out]`` in a shape that broadcasts to the layer's output."""
        trailing = len(self.geometry.kernel) if isinstance(self.geometry, Convolution) else 0
        return values.reshape(-1, *[1] * trailing)


def layer_form(module: fx.GraphModule, node: fx.Node) -> LayerForm | None:
    """``None`` for what is no product of rows and one weight, such as an embedding."""
    if node.op == "call_module":
        return _of_module(module.get_submodule(str(node.target)), node)
    match bare_name(node), node.args:
        case "linear", (fx.Node() as x, fx.Node() as weight, *rest) if not node.kwargs:
            bias = rest[0] if rest else None
            is_plain = _is_matrix(module, weight) and not _is_matrix(module, x)
            return _functional(module, Dense(), 0, bias) if is_plain else None
        case "linear", (fx.Node() as x, fx.Node() as weight) if node.kwargs.keys() == {"bias"}:
            is_plain = _is_matrix(module, weight) and not _is_matrix(module, x)
            return _functional(module, Dense(), 0, node.kwargs["bias"]) if is_plain else None
        case (("mm" | "matmul"), (fx.Node() as x, fx.Node() as weight)) if not node.kwargs:
            is_plain = _is_matrix(module, weight) and x.op != "get_attr"
            return LayerForm(Dense(transposed=True), 0, None) if is_plain else None
        case "addmm", (bias, fx.Node() as x, fx.Node() as weight) if not node.kwargs:
            is_plain = _is_matrix(module, weight) and x.op != "get_attr"
            return _functional(module, Dense(transposed=True), 1, bias) if is_plain else None
        case _:
            return None


def _of_module(leaf: nn.Module, node: fx.Node) -> LayerForm | None:
    if node.all_input_nodes[0].op == "get_attr":  # a parameter is no sample
        return None
    if isinstance(leaf, nn.Linear):
        return LayerForm(Dense(), 0, leaf.bias)
    if not isinstance(leaf, nn.Conv1d | nn.Conv2d | nn.Conv3d) or leaf.padding_mode != "zeros":
        return None
    shape = facts(node).shape
    if shape is not None and len(shape) != len(leaf.kernel_size) + 2:  # one sample, no batch
        return None
    return LayerForm(_convolution(leaf), 0, leaf.bias)


def _functional(
    module: fx.GraphModule, geometry: Geometry, place: int, bias: object
) -> LayerForm | None:
    """A bias that is computed, or is no vector, is a term that no solver here knows of."""
    if bias is None:
        return LayerForm(geometry, place, None)
    if not isinstance(bias, fx.Node) or bias.op != "get_attr":
        return None
    value = attribute(module, str(bias.target))
    if not isinstance(value, Tensor) or value.dim() != 1:
        return None
    return LayerForm(geometry, place, value.detach())


def _is_matrix(module: fx.GraphModule, node: fx.Node) -> bool:
    if node.op != "get_attr":
        return False
    value = attribute(module, str(node.target))
    return isinstance(value, Tensor) and value.dim() == 2


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
