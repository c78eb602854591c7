"""Which value a layer's output is added to, so that the layer can make up for its error.

A block ``y = x + f(x)`` hands the error of ``x`` on. The last layer of ``f`` may be fitted to
``y_float - x_quantized`` instead of its own float output; then it also cancels what it can of the
error that the skip carries. Found from the graph: names mean nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, fx, nn

from qcompile.capture.operations import bare_name
from qcompile.passes.sweep_node import attribute
from qcompile.quant.geometry import Convolution, Geometry

FAINT = 1e-3
"""Gains below this share of the largest let too little of the layer through to correct a skip."""
_UNCHANGED = (nn.Identity, nn.Dropout)


@dataclass(frozen=True, slots=True, eq=False)
class Residual:
    """``sum = skip + gain * output``."""

    skip: str
    """Name of the node."""
    gain: Tensor | None
    """Of each output of the layer, ``[out]``; ``None``: 1."""

    def correction(self, plain: Tensor, quantized: Tensor, geometry: Geometry) -> Tensor:
        """What the layer's output would have to be larger by, to make the sum right."""
        error = plain - quantized
        if self.gain is None:
            return error
        usable = self.gain.abs() > FAINT * self.gain.abs().max()
        inverse = torch.where(usable, 1 / self.gain, torch.zeros_like(self.gain))
        return error * _along(inverse, error, geometry)


def residual(
    module: fx.GraphModule, node: fx.Node, geometry: Geometry, is_ready: Callable[[str], bool]
) -> Residual | None:
    """The addition that ``node`` runs into with nothing but a gain for each output between.

    ``is_ready`` tells whether a node's value is there already: the branch that comes last makes up
    for the others.
    """
    gain: Tensor | None = None
    current = node
    while len(current.users) == 1:
        (user,) = current.users
        name = bare_name(user) if user.op != "call_module" else ""
        if name == "add":
            other = _other(user, current)
            return Residual(other.name, gain) if other and is_ready(other.name) else None
        if name == "mul":
            factor = _gain(module, _other(user, current), geometry)
            if factor is None:
                return None
            gain = factor if gain is None else gain * factor
        elif not _is_unchanged(module, user):
            return None
        current = user
    return None


def _other(user: fx.Node, used: fx.Node) -> fx.Node | None:
    """The other operand of a plain sum or product of two nodes."""
    operands = user.args
    if len(operands) != 2 or user.kwargs or not all(isinstance(x, fx.Node) for x in operands):
        return None
    first, second = cast("tuple[fx.Node, fx.Node]", operands)
    if first is second:
        return None
    return second if first is used else first


def _gain(module: fx.GraphModule, factor: fx.Node | None, geometry: Geometry) -> Tensor | None:
    if factor is None or factor.op != "get_attr":
        return None
    value = attribute(module, str(factor.target))
    if not isinstance(value, Tensor):
        return None
    trailing = len(geometry.kernel) if isinstance(geometry, Convolution) else 0
    kept = value.dim() - trailing
    flat = value.detach().flatten()
    if kept < 1 or value.shape[kept - 1] != len(flat) or len(flat) == 1:
        return None
    return flat


def _is_unchanged(module: fx.GraphModule, node: fx.Node) -> bool:
    return node.op == "call_module" and isinstance(
        module.get_submodule(str(node.target)), _UNCHANGED
    )


def _along(gain: Tensor, like: Tensor, geometry: Geometry) -> Tensor:
    trailing = len(geometry.kernel) if isinstance(geometry, Convolution) else 0
    return gain.to(like.device).reshape(-1, *[1] * trailing)
