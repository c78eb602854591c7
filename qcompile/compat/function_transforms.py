"""Tensors inside of ``torch.vmap``, ``torch.func.grad`` and the like."""

from torch import Tensor
from torch._C._functorch import (
    is_functorch_wrapped_tensor,  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType]
)
from torch.autograd.forward_ad import unpack_dual


def is_of_function_transform(tensor: Tensor) -> bool:
    """Such a tensor stands for others, and is gone when the transform ends."""
    return bool(is_functorch_wrapped_tensor(tensor))


def is_plain(tensor: Tensor) -> bool:
    """Nothing is derived of it, so that operations may write into given memory."""
    if tensor.requires_grad or is_of_function_transform(tensor):
        return False
    return unpack_dual(tensor).tangent is None
