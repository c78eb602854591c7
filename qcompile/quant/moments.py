"""What a layer-local solver needs to know of the samples: moments of inputs and wanted outputs.

With ``q`` the layer's input behind the quantized prefix and ``t`` the output that is wanted of it,
``E |W q + b - t|^2`` is a quadratic form in ``W`` and ``b``, whose coefficients are the moments
below; the samples themselves are needed no more.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import repeat

import torch
from torch import Tensor

from qcompile.quant.geometry import Geometry, output_rows, rows
from qcompile.quant.second_moment import second_moment


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

    def of_product(self, weight: Tensor) -> "Moments":
        """With ``W q`` for the wanted outputs."""
        cross = weight @ self.gram
        mean_target = (weight @ self.mean_input[:, :, None])[..., 0]
        power = (cross * weight).sum(-1)
        return Moments(self.gram, cross, self.mean_input, mean_target, power, self.samples)

    def of_rows(self, rows: slice) -> "Moments":
        """For some of the outputs."""
        return replace(
            self,
            cross=self.cross[:, rows],
            mean_target=self.mean_target[:, rows],
            power=self.power[:, rows],
        )

    def moved(self, input_by: Tensor, target_by: Tensor) -> "Moments":
        """Of ``q + input_by`` and ``t + target_by``."""
        a, b = input_by[:, None, :], target_by[:, :, None]
        q, t = self.mean_input[:, None, :], self.mean_target[:, :, None]
        outer = q.transpose(1, 2) @ a
        return Moments(
            self.gram + outer + outer.transpose(1, 2) + a.transpose(1, 2) @ a,
            self.cross + t @ a + b @ q + b @ a,
            self.mean_input + input_by,
            self.mean_target + target_by,
            self.power + target_by * (2 * self.mean_target + target_by),
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


class UnusableSamplesError(ArithmeticError):
    """There are none, or some are not finite."""


def moments(
    pairs: Iterable[tuple[Tensor, Tensor]],
    geometry: Geometry,
    weights: Sequence[Tensor | None] | None = None,
) -> Moments:
    """Over batches of ``(inputs behind the prefix, wanted outputs)`` of the layer.

    ``weights`` ``[1, samples]`` of each batch say how much a row counts; without, all alike.

    Products are taken in float32 around the means of the first batch, and moved back in float64:
    a mean that is large beside the spread would drown it. Raises ``UnusableSamplesError``.
    """
    total: list[Tensor] = []
    around: tuple[Tensor, Tensor] | None = None
    samples = 0
    weighed = zip(pairs, repeat(None)) if weights is None else zip(pairs, weights, strict=True)
    for (inputs, wanted), weight in weighed:
        q, t = rows(inputs.float(), geometry), output_rows(wanted.float(), geometry)
        if not q.shape[1]:
            continue
        if around is None:
            around = (q.mean(1, keepdim=True), t.mean(1, keepdim=True))
        part = _sums(q - around[0], t - around[1], weight)
        total = [a.add_(b) for a, b in zip(total, part, strict=True)] if total else part
        samples += q.shape[1]
    if around is None or not all(bool(torch.isfinite(part).all()) for part in total):
        raise UnusableSamplesError
    gram, cross, *vectors, whole = total
    mean_input, mean_target, power = (part / whole[:, None] for part in vectors)
    gram, cross = gram / whole[:, None, None], cross / whole[:, None, None]
    near = Moments(gram, cross, mean_input, mean_target, power, samples)
    return near.moved(around[0][:, 0].double(), around[1][:, 0].double())


def _sums(q: Tensor, t: Tensor, weight: Tensor | None) -> list[Tensor]:
    """Of ``q q^T``, ``t q^T``, ``q``, ``t``, ``t^2`` and the weights, in float64."""
    if weight is None:
        heavy_q, heavy_t = q, t
        whole = torch.full((1,), q.shape[1], dtype=torch.float64, device=q.device)
    else:
        heavy_q, heavy_t = q * weight[..., None], t * weight[..., None]
        whole = weight.sum(1, dtype=torch.float64)
    return [
        second_moment(heavy_q, q).double(),
        (heavy_t.transpose(1, 2) @ q).double(),
        heavy_q.sum(1).double(),
        heavy_t.sum(1).double(),
        (heavy_t * t).sum(1).double(),
        whole,
    ]
