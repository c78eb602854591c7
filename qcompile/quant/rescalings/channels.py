"""What a rescaling sees of one value, and what it answers."""

from dataclasses import dataclass

import torch
from torch import Tensor

from qcompile.policy.scheme import QuantSlot


@dataclass(frozen=True, slots=True, eq=False)
class Channels:
    """Figures of the channels of a value over the calibration set; ``[c]`` in float64."""

    peak: Tensor
    """Largest magnitude."""
    mean: Tensor
    """Mean magnitude."""
    low: Tensor
    high: Tensor
    """Range without its tails: the mean over the batches."""
    rows: Tensor
    """``[rows, c]`` in float32."""

    def after(self, change: "Rescaled") -> "Channels":
        """The same of the value once ``change`` is made."""
        shift = torch.zeros_like(change.scale) if change.shift is None else change.shift
        low, high = self.low / change.scale - shift, self.high / change.scale - shift
        rows = (self.rows.double() / change.scale - shift).float()
        peak, mean = self.peak / change.scale, self.mean / change.scale
        if change.shift is not None:  # as far as it can be told
            peak, mean = torch.maximum(low.abs(), high.abs()), rows.double().abs().mean(0)
        return Channels(peak, mean, low, high, rows)


@dataclass(frozen=True, slots=True, eq=False)
class Weight:
    """A weight that reads the value, as the model holds it, in float64."""

    values: Tensor
    axis: int
    """That counts the channels of the value."""
    spec: QuantSlot | None
    """``None``: it stays in float."""
    output_axis: int

    @property
    def peak(self) -> Tensor:
        """``[c]``: the largest magnitude that meets each channel."""
        return _peak(self.values, self.axis)

    def scaled(self, scale: Tensor) -> Tensor:
        shape = [1] * self.values.dim()
        shape[self.axis] = -1
        return self.values * scale.view(shape)


@dataclass(frozen=True, slots=True, eq=False)
class Situation:
    """One value between the weights that make and read it."""

    channels: Channels
    made_peak: Tensor | None
    """``[c]``: the largest magnitude of the weights that make each channel, for a layer."""
    readers: tuple[Weight, ...]
    takes_shift: bool

    @property
    def read_peak(self) -> Tensor:
        """``[c]``, over all readers."""
        return torch.stack([reader.peak for reader in self.readers]).amax(0)


@dataclass(frozen=True, slots=True, eq=False)
class Rescaled:
    """The value becomes ``value / scale - shift``; ``[c]`` in float64, ``scale`` positive."""

    scale: Tensor
    shift: Tensor | None = None


def unscaled(like: Tensor) -> Rescaled:
    return Rescaled(torch.ones_like(like))


def positive(scale: Tensor, *needed: Tensor) -> Tensor:
    """``scale``, and 1 where it is no number or one of ``needed`` is zero: a dead channel."""
    fits = torch.isfinite(scale) & (scale > 0)
    for other in needed:
        fits &= other > 0
    return torch.where(fits, scale, torch.ones_like(scale))


def _peak(values: Tensor, axis: int) -> Tensor:
    others = [place for place in range(values.dim()) if place != axis % values.dim()]
    return values.abs().amax(others) if others else values.abs()
