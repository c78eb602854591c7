"""A layer of the reference graph: product, bias, stored weight, and what quantizes its input."""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import cast

import torch
from torch import Tensor, fx
from torch.fx.node import Argument
from torch.nn import functional

from qcompile.emit.lower.stored_weight import StoredWeight, stored_weight
from qcompile.quant.fake_quantize import RunTimeRange, fake_quantize, fake_quantize_dynamic

Ints = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ConvShape:
    """Two numbers each, but ``groups``."""

    stride: Ints
    padding: Ints
    dilation: Ints
    groups: int


@dataclass(frozen=True, slots=True)
class StaticInput:
    """Codes in ``[0, top]``, for signed formats too: ``compat.quantize_to_bytes``."""

    scale: float
    zero_point: int
    top: int


@dataclass(frozen=True, slots=True)
class DynamicInput:
    """The arguments of ``fake_quantize_dynamic``."""

    qmin: int
    qmax: int
    symmetric: bool
    per_token: bool
    share: float


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    node: fx.Node
    """The product, in the graph that is rewritten."""
    source: fx.Node
    """The float value that goes in, before it is quantized."""
    quantizer: StaticInput | DynamicInput | None
    weight: StoredWeight
    weight_node: fx.Node
    bias: Argument
    conv: ConvShape | None
    """``None`` for a linear layer."""

    @property
    def quantized(self) -> fx.Node:
        """The value that the reference multiplies."""
        return cast("fx.Node", self.node.args[0])

    @property
    def source_now(self) -> fx.Node:
        """``source``, or the kernel that has replaced it since; until the layer is replaced."""
        given = self.quantized
        return given if self.quantizer is None else cast("fx.Node", given.args[0])

    @property
    def static_input(self) -> StaticInput:
        assert isinstance(self.quantizer, StaticInput)
        return self.quantizer

    @property
    def has_computed_bias(self) -> bool:
        """By the graph, so that nothing can be added to it beforehand."""
        return isinstance(self.bias, fx.Node) and self.bias.op != "get_attr"


def layer_of(module: fx.GraphModule, node: fx.Node) -> Layer | str:
    """Take ``node`` apart, or say why no kernel can have it."""
    operands = operands_of(node)
    if operands is None:
        return "its operation is not a plain product with a weight"
    x, weight_node, bias, output_axis = operands
    if x.target is functional.pad:
        return "its padding is not of zeros"
    weight = stored_weight(module, weight_node, output_axis)
    if weight is None:
        return "its weight is not on a grid of its outputs"
    if weight.dtype != torch.float32:
        return f"the model computes in {str(weight.dtype).removeprefix('torch.')}"
    conv = None
    if node.target is functional.conv2d:
        conv = _conv_shape(node, weight.codes.shape[2:])
        if conv is None:
            return "its padding is not the same on both sides"
    source, quantizer = quantizer_of(module, x)
    return Layer(node, source, quantizer, weight, weight_node, bias, conv)


def is_quantized(node: fx.Node) -> bool:
    """Whether ``node`` is a product of integers by its input; nothing is unpacked to say so."""
    operands = operands_of(node)
    return operands is not None and operands[0].target in (fake_quantize, fake_quantize_dynamic)


def operands_of(node: fx.Node) -> tuple[fx.Node, fx.Node, Argument, int] | None:
    """Give input, weight, bias, and the axis of the weight's outputs."""
    args = node.args
    if node.kwargs or len(args) < 2 or not all(isinstance(arg, fx.Node) for arg in args[:2]):
        return None
    first, second = cast("tuple[fx.Node, fx.Node]", args[:2])
    target: object = node.target
    if target is functional.linear or target is functional.conv2d:
        return first, second, args[2] if len(args) > 2 else None, 0
    if len(args) == 2 and (target in _MATRIX_PRODUCTS or _is_method(node, "matmul")):
        return first, second, None, 1
    return None


_MATRIX_PRODUCTS: tuple[Callable[..., object], ...] = (torch.matmul, operator.matmul)


def _is_method(node: fx.Node, name: str) -> bool:
    return node.op == "call_method" and node.target == name


def _conv_shape(node: fx.Node, kernel: Sequence[int]) -> ConvShape | None:
    _, _, _, stride, padding, dilation, groups = node.args
    if padding == "valid":
        padding = 0
    if padding == "same":
        added = [far * (size - 1) for far, size in zip(_pair(dilation), kernel, strict=True)]
        if any(size % 2 for size in added):
            return None
        padding = [size // 2 for size in added]
    return ConvShape(_pair(stride), _pair(padding), _pair(dilation), cast("int", groups))


def _pair(value: Argument) -> Ints:
    return (value, value) if isinstance(value, int) else tuple(cast("list[int]", value))


def quantizer_of(
    module: fx.GraphModule, x: fx.Node
) -> tuple[fx.Node, StaticInput | DynamicInput | None]:
    """What ``x`` is before one range for the whole of it, or one found at run time, and that."""
    if x.target is fake_quantize and x.args[5] is None:
        source, scale, zero_point, qmin, qmax, _ = x.args
        low, high = cast("int", qmin), cast("int", qmax)
        step = float(_value(module, scale))
        zero = -low if zero_point is None else int(_value(module, zero_point))
        return cast("fx.Node", source), StaticInput(step, zero, high - low)
    if x.target is fake_quantize_dynamic:
        source, *ranges = x.args
        return cast("fx.Node", source), DynamicInput(*cast("RunTimeRange", ranges))
    return x, None


def _value(module: fx.GraphModule, argument: object) -> float:
    found: object = attrgetter(str(cast("fx.Node", argument).target))(module)
    return cast("Tensor", found).item()
