"""Weights drawn by lot: what the other selections must beat."""

import torch
from torch import Tensor

from qcompile.quant.selections.candidate import Candidate


def by_lot(candidate: Candidate) -> Tensor:
    source = candidate.generator
    return torch.rand(candidate.weight.shape, generator=source, device=source.device)
