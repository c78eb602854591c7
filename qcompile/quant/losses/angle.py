"""The angle between the outputs of a sample, whatever their lengths."""

from torch import Tensor
from torch.nn import functional

from qcompile.methods.axes import LossTerm
from qcompile.quant.losses.pair import Pair


def cosine(pair: Pair, term: LossTerm) -> Tensor:
    """``1 - cos`` of each sample's output as one vector, averaged over samples."""
    found, wanted = pair.found.flatten(1), pair.wanted.flatten(1)
    return (1 - functional.cosine_similarity(found, wanted, dim=1)).mean()
