"""Squared differences weighted by how much the network behind depends on each element."""

from torch import Tensor

from qcompile.methods.axes import LossTerm
from qcompile.quant.losses.pair import Pair


def fisher(pair: Pair, term: LossTerm) -> Tensor:
    """``mean (g d)^2``: the diagonal of the Fisher matrix (BRECQ, 2102.05426, section 3.3)."""
    return pair.weighted.square().mean()


def fisher_full(pair: Pair, term: LossTerm) -> Tensor:
    """``mean over samples of (sum |g| |d|)^2``: the rank-one Fisher matrix of each sample.

    With absolute values, as in BRECQ's code: differences of either sign add up.
    """
    return pair.weighted.flatten(1).sum(1).square().mean()


def perturbation(pair: Pair, term: LossTerm) -> Tensor:
    """``mean h d^2``, ``h`` the size of the Hessian's row sums (APHQ-ViT, CVPR 2025)."""
    return (pair.weighted * pair.difference.abs()).mean()
