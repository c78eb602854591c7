"""Lion (2302.06675, algorithm 2): the sign of an interpolated momentum, decay decoupled."""

from collections.abc import Iterable

import torch
from torch import Tensor

from qcompile.quant.optimizers.direction import Directed


class Lion(Directed):
    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr, weight_decay)
        self.betas = betas

    def direction(self, grad: Tensor, state: dict[str, Tensor]) -> Tensor:
        last = state.get("momentum", torch.zeros_like(grad))
        now, later = self.betas
        state["momentum"] = later * last + (1 - later) * grad
        return (now * last + (1 - now) * grad).sign()
