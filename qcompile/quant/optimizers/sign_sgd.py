"""SignSGD, which SignRound learns with (2309.05516): the rate is the distance of each step."""

from collections.abc import Iterable

from torch import Tensor

from qcompile.quant.optimizers.direction import Directed


class SignSgd(Directed):
    """With momentum, the sign is of the running mean ``m <- momentum m + g``."""

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.0) -> None:
        super().__init__(params, lr)
        self.momentum = momentum

    def direction(self, grad: Tensor, state: dict[str, Tensor]) -> Tensor:
        last = state.get("momentum")
        if self.momentum:
            state["momentum"] = grad.clone() if last is None else self.momentum * last + grad
            return state["momentum"].sign()
        return grad.sign()
