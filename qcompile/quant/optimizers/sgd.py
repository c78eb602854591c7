"""Gradient descent in units of the first gradient.

The gradient of a mean is small beside the weights, and smaller the more there are: a plain rate
would have to be found anew for every layer. In units of the root mean square of a tensor's first
gradient, a rate means what it means to the other rules: how far a weight moves in a step.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from qcompile.quant.optimizers.direction import Directed


class Sgd(Directed):
    """With heavy-ball momentum as in torch: ``m <- momentum m + g``."""

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr, weight_decay)
        self.momentum = momentum

    def direction(self, grad: Tensor, state: dict[str, Tensor]) -> Tensor:
        unit = state.get("unit")
        if unit is None:
            size = grad.square().mean().sqrt()
            unit = torch.where(size > 0, size, torch.ones_like(size))
            if not bool(size > 0):  # nothing to measure by yet
                return torch.zeros_like(grad)
            state["unit"] = unit
        scaled = grad / unit
        if not self.momentum:
            return scaled
        last = state.get("momentum")
        state["momentum"] = scaled if last is None else self.momentum * last + scaled
        return state["momentum"]
