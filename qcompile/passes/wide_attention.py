"""Attention in float32 where its gradient in bfloat16 is slow, in what is learned in bfloat16."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, fx

from qcompile.capture.operations import bare_name
from qcompile.compat.cpu_features import attends_bf16
from qcompile.passes.sweep_values import Value, map_tensors, tensors_in

ATTENTION = "scaled_dot_product_attention"


def is_widened(node: fx.Node, args: Sequence[Value]) -> bool:
    """Products are computed in bf16 just now, on a processor that is slow at the gradient."""
    if bare_name(node) != ATTENTION or not torch.is_autocast_enabled("cpu"):
        return False
    return not attends_bf16() and all(t.device.type == "cpu" for t in tensors_in(list(args)))


def widened(
    call: Callable[..., Value], args: Sequence[Value], kwargs: Mapping[str, Value]
) -> Value:
    """The same call on float32; the gradients of its arguments are of their own type."""
    with torch.autocast("cpu", enabled=False):
        wide = {name: map_tensors(value, _wide) for name, value in kwargs.items()}
        return call(*(map_tensors(value, _wide) for value in args), **wide)


def _wide(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype == torch.bfloat16 else tensor
