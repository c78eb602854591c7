"""A layer as a product of matrices: which rows of inputs meet which rows of weights.

A linear layer, and a convolution by im2col, is ``y = rows @ W^T`` for each group: ``rows`` is
``[groups, samples, k]`` and the weight ``[groups, out / groups, k]``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import TypeAlias

from torch import Tensor
from torch.nn import functional as F

PIECE = 1 << 20
"""Elements of patches that are looked at together: they stay in the cache."""
ROWS_PER_INPUT = 4
"""So many rows at least, lest sums over rows cost more than the products."""


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


def are_rows(geometry: Geometry) -> bool:
    """Inputs are rows as they are: no patch holds one of them more than once."""
    return isinstance(geometry, Dense) or set(geometry.kernel) == {1}


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


def output_rows(y: Tensor, geometry: Geometry) -> Tensor:
    """``[groups, samples, out / groups]`` of one batch of outputs: ``rows @ W^T``."""
    match geometry:
        case Dense():
            return y.reshape(1, -1, y.shape[-1])
        case Convolution():
            split = y.reshape(y.shape[0], geometry.groups, y.shape[1] // geometry.groups, -1)
            columns = split.permute(1, 2, 0, 3).reshape(geometry.groups, split.shape[2], -1)
            return columns.transpose(1, 2)


def pieces(x: Tensor, y: Tensor, geometry: Convolution) -> Iterator[slice]:
    """Samples of a batch ``x`` of inputs and ``y`` of outputs whose patches are best made together.

    Patches are many times the inputs: those of a whole batch are in no cache.
    """
    k = x.shape[1] // geometry.groups * prod(geometry.kernel)
    positions = y.shape[2:].numel()
    fitting = PIECE // max(geometry.groups * positions * k, 1)
    at_once = max(fitting, -(-ROWS_PER_INPUT * k // max(positions, 1)), 1)
    yield from (slice(first, first + at_once) for first in range(0, len(x), at_once))


def _patches(x: Tensor, geometry: Convolution) -> Tensor:
    """im2col: ``[groups, batch * positions, in / groups * kernel]`` in the order of the weight.

    In memory a row's elements are far from each other and those of neighbouring rows side by side,
    as they are in the image: to copy them is fast then.
    """
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
    order = [1, 2, *range(3 + spatial, 3 + 2 * spatial), 0, *range(3, 3 + spatial)]
    columns = x.permute(order).reshape(
        geometry.groups, inner * prod(geometry.kernel), batch * positions.numel()
    )
    return columns.transpose(1, 2)
