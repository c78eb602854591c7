"""The step rules that torch does not have, as one small class each."""

from collections.abc import Callable, Iterable
from typing import cast

import torch
from torch import Tensor
from torch.optim import Optimizer


class Directed(Optimizer):
    """``p <- p - lr (direction + decay p)``; a rule says what the direction is.

    ``state`` is the rule's own memory of one parameter, empty at first.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    def direction(self, grad: Tensor, state: dict[str, Tensor]) -> Tensor:
        raise TypeError(f"{type(self).__name__} is no rule")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        assert closure is None, "no rule here evaluates the loss again"
        for group in self.param_groups:
            for parameter in cast("list[Tensor]", group["params"]):
                if parameter.grad is None:
                    continue
                state = cast("dict[str, Tensor]", self.state[parameter])
                move = self.direction(parameter.grad, state)
                if group["weight_decay"]:
                    move = move + group["weight_decay"] * parameter
                parameter.sub_(move, alpha=group["lr"])
