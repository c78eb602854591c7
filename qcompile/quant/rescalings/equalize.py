"""Cross-layer equalization (arXiv 1906.04721, section 4.1): both layers get the same ranges."""

from qcompile.quant.rescalings.channels import Rescaled, Situation, positive, unscaled


def equalize(seen: Situation) -> Rescaled:
    """``s_j = sqrt(r1_j / r2_j)``, so that either weight has ``sqrt(r1_j r2_j)`` in channel j."""
    made, read = seen.made_peak, seen.read_peak
    if made is None:
        return unscaled(read)
    return Rescaled(positive((made / read).sqrt(), made, read))
