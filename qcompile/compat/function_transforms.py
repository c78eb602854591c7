"""Tensors inside of ``torch.vmap``, ``torch.func.grad`` and the like."""

from torch import Tensor
from torch._C._functorch import (
    is_functorch_wrapped_tensor,  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType]
)


def is_of_function_transform(tensor: Tensor) -> bool:
    """Such a tensor stands for others, and is gone when the transform ends."""
    return bool(is_functorch_wrapped_tensor(tensor))
