"""Losses on which a few large differences weigh less than in the mean square."""

import torch
from torch import Tensor

from qcompile.methods.axes import LossTerm
from qcompile.quant.losses.pair import Pair

SHARE = 0.001


def trimmed(pair: Pair, term: LossTerm) -> Tensor:
    """The mean square without the ``share`` of the batch's elements that differ most.

    SignRoundV2 (2512.04746): at four bits and below, outliers of the output drown the rest.
    """
    squares = pair.difference.square().flatten()
    left_out = int((SHARE if term.share is None else term.share) * len(squares))
    if not left_out:
        return squares.mean()
    largest = torch.topk(squares.detach(), left_out, sorted=False).indices
    return squares.index_fill(0, largest, 0).sum() / (len(squares) - left_out)


def huber(pair: Pair, term: LossTerm) -> Tensor:
    """Square up to one standard deviation of the differences, linear beyond."""
    size = pair.difference.abs()
    bend = pair.difference.detach().std(correction=0)
    return torch.where(size <= bend, size.square() / 2, bend * (size - bend / 2)).mean()
