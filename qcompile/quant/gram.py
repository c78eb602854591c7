"""Second moments of a layer's inputs, as the layer's own weight sees them.

A linear layer, and a convolution by im2col, is ``y = rows @ W^T`` for each group: ``rows`` is
``[groups, samples, k]`` and the weight ``[groups, out / groups, k]``. Moments are accumulated in
float64.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class Dense:
    """``[.., in]`` times ``[out, in]``, or ``[in, out]`` where ``transposed``."""

    transposed: bool = False


@dataclass(frozen=True, slots=True)
class Convolution:
    """Of one, two or three spatial axes, with zero padding ``(before, after)`` for each axis."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int


Geometry: TypeAlias = Dense | Convolution


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """``gram = E[q q^T]`` and ``cross = E[f q^T]``, both ``[groups, k, k]``, and the two means."""

    gram: Tensor
    cross: Tensor
    mean_quantized: Tensor
    """``[groups, k]``"""
    mean_float: Tensor
    samples: int

    def centred(self) -> "Moments":
        """Without the means: covariances, for a solver that sets the bias exactly afterwards."""
        q, f = self.mean_quantized, self.mean_float
        return Moments(
            self.gram - q[:, :, None] * q[:, None, :],
            self.cross - f[:, :, None] * q[:, None, :],
            q,
            f,
            self.samples,
        )


def rows(x: Tensor, geometry: Geometry) -> Tensor:
    """``[groups, samples, k]`` of one batch of inputs."""
    match geometry:
        case Dense():
            return x.reshape(1, -1, x.shape[-1])
        case Convolution():
            return _patches(x, geometry)


def weight_rows(weight: Tensor, geometry: Geometry) -> Tensor:
    """``[groups, out / groups, k]`` of a weight; a view where possible."""
    match geometry:
        case Dense(transposed):
            return (weight.T if transposed else weight)[None]
        case Convolution():
            return weight.reshape(geometry.groups, weight.shape[0] // geometry.groups, -1)


def weight_of_rows(rows_: Tensor, shape: tuple[int, ...], geometry: Geometry) -> Tensor:
    """The inverse of ``weight_rows``."""
    match geometry:
        case Dense(transposed):
            return rows_[0].T.contiguous() if transposed else rows_[0]
        case Convolution():
            return rows_.reshape(shape)


def gram(inputs: Iterable[Tensor], geometry: Geometry) -> Tensor:
    """``E[x x^T]`` over batches of inputs, ``[groups, k, k]`` in float64."""
    total, samples = torch.zeros(()), 0
    for x in inputs:
        taken = rows(x.float(), geometry)
        product = (taken.transpose(1, 2) @ taken).double()
        total = product if samples == 0 else total + product
        samples += taken.shape[1]
    if samples == 0:
        raise ValueError("moments of no samples")
    return total / samples


def moments(pairs: Iterable[tuple[Tensor, Tensor]], geometry: Geometry) -> Moments:
    """Over batches of ``(float, quantized)`` inputs of the layer."""
    gram = cross = torch.zeros(())
    mean_q = mean_f = torch.zeros(())
    samples = 0
    for plain, quantized in pairs:
        q = rows(quantized.float(), geometry)
        f = q if plain is quantized else rows(plain.float(), geometry)
        if samples == 0:
            groups, _, k = q.shape
            gram = torch.zeros(groups, k, k, dtype=torch.float64, device=q.device)
            cross = torch.zeros_like(gram)
            mean_q = torch.zeros(groups, k, dtype=torch.float64, device=q.device)
            mean_f = torch.zeros_like(mean_q)
        gram += q.transpose(1, 2) @ q
        cross += f.transpose(1, 2) @ q
        mean_q += q.sum(1, dtype=torch.float64)
        mean_f += f.sum(1, dtype=torch.float64)
        samples += q.shape[1]
    if samples == 0:
        raise ValueError("moments of no samples")
    return Moments(gram / samples, cross / samples, mean_q / samples, mean_f / samples, samples)


def _patches(x: Tensor, geometry: Convolution) -> Tensor:
    """im2col: ``[groups, batch * positions, in / groups * kernel]`` in the order of the weight."""
    before_last_first = [side for axis in reversed(geometry.padding) for side in axis]
    x = F.pad(x, before_last_first)
    spatial = len(geometry.kernel)
    for axis, (size, stride, dilation) in enumerate(
        zip(geometry.kernel, geometry.stride, geometry.dilation, strict=True), start=2
    ):
        span = dilation * (size - 1) + 1
        x = x.unfold(axis, span, stride)
        x = x[..., ::dilation]
    # [batch, channels, positions.., kernel..]
    batch, channels = x.shape[:2]
    positions = x.shape[2 : 2 + spatial]
    inner = channels // geometry.groups
    x = x.reshape(batch, geometry.groups, inner, *positions, *geometry.kernel)
    order = [1, 0, *range(3, 3 + spatial), 2, *range(3 + spatial, 3 + 2 * spatial)]
    return x.permute(order).reshape(geometry.groups, batch * positions.numel(), -1)
