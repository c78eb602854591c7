"""RepQ-ViT (arXiv 2212.08254, section 3.3): ranges of channels move from a norm to its readers.

Each channel of the norm's output gets the mean width, and where biases can take it up the middle
zero, so that one range for the tensor serves it as well as one for each channel would. The paper
moves all middles to their mean; our grids hold zero, which one far from it would waste codes on.
"""

import torch

from qcompile.quant.rescalings.channels import Rescaled, Situation, positive


def ln_reparam(seen: Situation, alpha: float) -> Rescaled:
    """``r = (s / mean(s))^alpha``, ``s`` the width of a channel; then the middles become zero.

    The paper has ``alpha = 1``. With less the weights are spread less, which few bits hold better.
    """
    width = seen.channels.high - seen.channels.low
    mean = width.mean()
    scale = positive((width / mean) ** alpha, width) if mean > 0 else torch.ones_like(width)
    if not seen.takes_shift:
        return Rescaled(scale)
    return Rescaled(scale, (seen.channels.high + seen.channels.low) / (2 * scale))
