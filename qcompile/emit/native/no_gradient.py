"""Results that have no gradient say so when one is asked for, not before."""

from typing import Any, cast

import torch
from torch import Tensor


def without_gradient(x: Tensor, made: Tensor) -> Tensor:
    """``made``; asking for a gradient by ``x`` is ``NotImplementedError``."""
    return cast("Tensor", _WithoutGradient.apply(x, made))


class _WithoutGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, made: Tensor) -> Tensor:  # noqa: ANN401
        return made.view_as(made)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:  # noqa: ANN401
        raise NotImplementedError("kernels of packed weights have no gradient: use the float model")
