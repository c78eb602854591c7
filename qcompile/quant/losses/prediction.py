"""How far the network's decision is from the float one."""

from torch import Tensor
from torch.nn import functional

from qcompile.methods.axes import LossTerm
from qcompile.quant.losses.pair import Pair

TEMPERATURE = 4.0


def prediction(pair: Pair, term: LossTerm) -> Tensor:
    """PD-Quant (2212.07048); as in its code there is no factor ``T^2``."""
    temperature = TEMPERATURE if term.temperature is None else term.temperature
    return divergence(pair.found, pair.wanted, temperature).mean()


def kl(pair: Pair, term: LossTerm) -> Tensor:
    return divergence(pair.found, pair.wanted, 1.0).mean()


def divergence(found: Tensor, wanted: Tensor, temperature: float) -> Tensor:
    """``KL(softmax(wanted / T) || softmax(found / T))`` over the last axis, for each row."""
    log_found = functional.log_softmax(found / temperature, dim=-1)
    log_wanted = functional.log_softmax(wanted / temperature, dim=-1)
    return functional.kl_div(log_found, log_wanted, reduction="none", log_target=True).sum(-1)
