"""The reduction of a layer with weights, whatever way it was written."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import cast

from torch import fx

from qcompile.capture.operands import Weights, argument
from qcompile.compat.submodules import module_at
from qcompile.policy.site import Kind


@dataclass(frozen=True, slots=True)
class Geometry:
    groups: int | None = None
    kernel: tuple[int, ...] | None = None
    stride: tuple[int, ...] | None = None
    in_features: int | None = None
    out_features: int | None = None
    fan_in: int | None = None
    """Weights that one output element reads."""
    fan_out: int | None = None
    """Weights that one input element meets; for transposed convolutions instead of ``fan_in``."""


def geometry_of(node: fx.Node, module: fx.GraphModule, kind: Kind, weights: Weights) -> Geometry:
    if weights.weight is None:
        return Geometry()
    shape = tuple(module.get_parameter(weights.weight).shape)
    match kind:
        case Kind.CONV:
            return _convolution(node, module, shape, weights.output_axis)
        case Kind.LINEAR:
            width = shape[-1] if weights.output_axis == 0 else shape[-2]
            out = shape[weights.output_axis]
            return Geometry(in_features=width, out_features=out, fan_in=width)
        case Kind.EMBEDDING:
            return Geometry(in_features=shape[0], out_features=shape[1])
        case _:
            return Geometry()


def _convolution(
    node: fx.Node, module: fx.GraphModule, shape: tuple[int, ...], output_axis: int
) -> Geometry:
    kernel = shape[2:]
    if node.op == "call_module":
        leaf = module_at(module, str(node.target))
        groups = cast("int", leaf.groups)
        stride = cast("tuple[int, ...]", leaf.stride)
    else:
        groups = cast("int | None", argument(node, (6, "groups"))) or 1
        stride = _each_axis(argument(node, (3, "stride")), len(kernel))
    width = shape[0] if output_axis else shape[1] * groups
    out = shape[1] * groups if output_axis else shape[0]
    if output_axis:
        return Geometry(groups, kernel, stride, width, out, fan_out=prod(shape[1:]))
    return Geometry(groups, kernel, stride, width, out, fan_in=prod(shape[1:]))


def _each_axis(value: object, axes: int) -> tuple[int, ...]:
    if isinstance(value, Sequence):
        return tuple(cast("Sequence[int]", value))
    return (cast("int | None", value) or 1,) * axes
