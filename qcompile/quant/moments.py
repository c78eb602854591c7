"""What a layer-local solver needs to know of the samples: moments of inputs and wanted outputs.

With ``q`` the layer's input behind the quantized prefix and ``t`` the output that is wanted of it,
``E |W q + b - t|^2`` is a quadratic form in ``W`` and ``b``, whose coefficients are the moments
below; the samples themselves are needed no more.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from qcompile.quant.geometry import Geometry, output_rows, rows


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Of ``groups`` groups of ``rows`` outputs over ``k`` inputs; float64."""

    gram: Tensor
    """``E[q q^T]``, ``[groups, k, k]``"""
    cross: Tensor
    """``E[t q^T]``, ``[groups, rows, k]``"""
    mean_input: Tensor
    """``[groups, k]``"""
    mean_target: Tensor
    """``[groups, rows]``"""
    power: Tensor
    """``E[t^2]``, ``[groups, rows]``"""
    samples: int

    def centred(self) -> "Moments":
        """Covariances: what is left to the weight when the bias is set exactly afterwards."""
        q, t = self.mean_input, self.mean_target
        return Moments(
            self.gram - q[:, :, None] * q[:, None, :],
            self.cross - t[:, :, None] * q[:, None, :],
            torch.zeros_like(q),
            torch.zeros_like(t),
            self.power - t.square(),
            self.samples,
        )

    def bias(self, weight: Tensor) -> Tensor:
        """The bias ``[groups, rows]`` with which the mean error of ``weight`` is zero."""
        return self.mean_target - (weight @ self.mean_input[:, :, None])[..., 0]

    def error(self, weight: Tensor, bias: Tensor | float = 0.0) -> Tensor:
        """``E |W q + b - t|^2`` for each output, ``[groups, rows]``."""
        around = ((weight @ self.gram) * weight).sum(-1) - 2 * (weight * self.cross).sum(-1)
        mean_error = (weight @ self.mean_input[:, :, None])[..., 0] - self.mean_target
        return around + self.power + bias * (bias + 2 * mean_error)


def moments(pairs: Iterable[tuple[Tensor, Tensor]], geometry: Geometry) -> Moments:
    """Over batches of ``(inputs behind the prefix, wanted outputs)`` of the layer."""
    total: tuple[Tensor, ...] = ()
    samples = 0
    for inputs, wanted in pairs:
        q, t = rows(inputs.float(), geometry), output_rows(wanted.float(), geometry)
        part = (
            (q.transpose(1, 2) @ q).double(),
            (t.transpose(1, 2) @ q).double(),
            q.sum(1, dtype=torch.float64),
            t.sum(1, dtype=torch.float64),
            t.square().sum(1, dtype=torch.float64),
        )
        total = tuple(a.add_(b) for a, b in zip(total, part, strict=True)) if total else part
        samples += q.shape[1]
    if not samples:
        raise ValueError("moments of no samples")
    gram, cross, mean_input, mean_target, power = (part / samples for part in total)
    return Moments(gram, cross, mean_input, mean_target, power, samples)
