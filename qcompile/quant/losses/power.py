"""The mean of ``|d| ** p``."""

from torch import Tensor

from qcompile.methods.axes import LossTerm
from qcompile.quant.losses.pair import Pair


def mse(pair: Pair, term: LossTerm) -> Tensor:
    exponent = 2.0 if term.p is None else term.p
    if exponent == 2:
        return pair.difference.square().mean()
    return pair.difference.abs().pow(exponent).mean()


def l1(pair: Pair, term: LossTerm) -> Tensor:
    return pair.difference.abs().mean()
