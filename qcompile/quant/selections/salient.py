"""Weights that matter for the output: large ones, of large inputs."""

from torch import Tensor

from qcompile.quant.selections.candidate import Candidate


def salient(candidate: Candidate) -> Tensor:
    """``|w_j| sqrt(G_jj)``, ``G`` the second moments of the layer's input."""
    return candidate.weight.abs() * candidate.input_size
