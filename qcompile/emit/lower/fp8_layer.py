"""A linear layer of the reference graph whose weight and input are small floats, e4m3."""

from dataclasses import dataclass
from math import prod
from operator import attrgetter
from typing import cast

import torch
from torch import Tensor, fx
from torch.fx.node import Argument
from torch.nn import functional

from qcompile.emit.lower.layer import operands_of
from qcompile.policy.number_format import FloatFormat
from qcompile.quant.fake_quantize import fake_quantize_e4m3
from qcompile.quant.level_weight import dequantize_levels
from qcompile.quant.levels import levels
from qcompile.quant.packing import unpack

E4M3 = levels(FloatFormat("e4m3"))
NOT_E4M3 = "its weight is not of `fp8_e4m3`"


@dataclass(frozen=True, slots=True, eq=False)
class Fp8Layer:
    node: fx.Node
    codes: Tensor
    """e4m3 ``[out, in]``: a code is the bit pattern of its level."""
    scale: Tensor
    """float32 ``[out]``."""
    bias: Argument
    per_token: bool

    @property
    def source_now(self) -> fx.Node:
        """The float value that goes in, or the kernel that has replaced it since."""
        quantizer = cast("fx.Node", self.node.args[0])
        return cast("fx.Node", quantizer.args[0])


def fp8_layer_of(module: fx.GraphModule, node: fx.Node) -> Fp8Layer | str:
    """Take ``node`` apart, or say why the kernel cannot have it."""
    operands = operands_of(node)
    if operands is None or node.target is functional.conv2d:
        return "its operation is not a plain linear layer"
    x, weight, bias, output_axis = operands
    if x.target is not fake_quantize_e4m3:
        return "its input is not of `fp8_e4m3`"
    if weight.target is not dequantize_levels:
        return NOT_E4M3
    terms, shape, axis, dtype = weight.args
    if dtype is not torch.float32:
        return f"the model computes in {str(dtype).removeprefix('torch.')}"
    stored = cast("tuple[tuple[Argument, ...], ...]", terms)
    packed, scale, whole, table, bits = stored[0]
    if len(stored) > 1 or whole is not None or not _is_e4m3(_tensor(module, table)):
        return NOT_E4M3
    scales = _tensor(module, scale)
    size = cast("tuple[int, int]", tuple(cast("list[int]", shape)))
    if scales.numel() not in (1, size[output_axis]) or (scales.numel() > 1 and axis != output_axis):
        return "the kernel has one scale for each output"
    codes = unpack(_tensor(module, packed), cast("int", bits), prod(size)).view(size)
    by_output = codes.movedim(output_axis, 0).contiguous().view(torch.float8_e4m3fn)
    each = scales.reshape(-1).expand(by_output.shape[0]).contiguous()
    per_token = cast("bool", x.args[1])
    return Fp8Layer(node, by_output, each, bias, per_token)


def _is_e4m3(table: Tensor) -> bool:
    return table.shape == E4M3.shape and bool(table.eq(E4M3).logical_or(E4M3.isnan()).all())


def _tensor(module: fx.GraphModule, argument: Argument) -> Tensor:
    return cast("Tensor", attrgetter(str(cast("fx.Node", argument).target))(module))
