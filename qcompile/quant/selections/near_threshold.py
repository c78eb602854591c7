"""Weights that rounding leaves undecided: those next to the middle between two codes."""

from torch import Tensor

from qcompile.quant.selections.candidate import Candidate


def near_threshold(candidate: Candidate) -> Tensor:
    position = candidate.position
    return -(position - position.floor() - 0.5).abs()
