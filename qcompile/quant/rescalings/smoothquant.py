"""SmoothQuant (arXiv 2211.10438, equation 4): outliers of activations move into weights."""

from torch import Tensor

from qcompile.quant.rescalings.channels import Rescaled, Situation, positive

SMALLEST = 1e-5
"""Of either maximum, as in the reference code."""


def smoothquant(seen: Situation, alpha: float) -> Rescaled:
    """``s_j = max|X_j|^alpha / max|W_j|^(1 - alpha)``, over all weights that read the value."""
    scale = _least(seen.channels.peak) ** alpha / _least(seen.read_peak) ** (1 - alpha)
    return Rescaled(positive(scale, seen.channels.peak, seen.read_peak))


def _least(values: Tensor) -> Tensor:
    return values.clamp(min=SMALLEST)
