"""The selections, by the word of the language. A new one is a score and a row here."""

import torch
from torch import Tensor

from qcompile.methods.axes import Select, SelectName
from qcompile.quant.selections.candidate import Candidate, Score
from qcompile.quant.selections.lot import by_lot
from qcompile.quant.selections.near_threshold import near_threshold
from qcompile.quant.selections.salient import salient

SELECTIONS: tuple[tuple[SelectName, Score], ...] = (
    ("near_threshold", near_threshold),
    ("salient", salient),
    ("random", by_lot),
)


def movable(select: Select, candidate: Candidate) -> Tensor | None:
    """True where a weight may move, for the share of them that scores best, but at least one.

    ``None``: all may.
    """
    score = dict(SELECTIONS).get(select.name)
    if score is None or select.share is None:
        return None
    scores = score(candidate).flatten()
    count = max(round(select.share * len(scores)), 1)
    best = scores.topk(count, sorted=False).indices
    found = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
    return found.index_fill(0, best, value=True).view(candidate.weight.shape)
