"""An affine map of each channel of the last axis, in front of a rotation."""

import torch
from torch import Tensor, nn


class ChannelBalance(nn.Module):
    """``(x - shift) * gain``; a leaf of captured graphs.

    Until a run has looked at the calibration data, ``shift`` is 0 and ``gain`` is 1.
    """

    shift: Tensor
    gain: Tensor

    def __init__(self, features: int, device: torch.device | str | None = None) -> None:
        super().__init__()
        if type(features) is not int or features < 1:  # a file may ask for anything
            raise ValueError(f"{features} is no number of features")
        self.features = features
        self.register_buffer("shift", torch.zeros(features, device=device))
        self.register_buffer("gain", torch.ones(features, device=device))

    def forward(self, x: Tensor) -> Tensor:
        """``[.., features]`` to the same shape, type and device."""
        return (x - self.shift).mul(self.gain)
