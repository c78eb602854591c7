"""Bytes of a quantized tensor as it lies on disk, forecast without torch.

A weight is one bit stream of ``bits`` bits a code, a float32 scale for each scale group, and, when
asymmetric, a uint8 zero point beside each scale. Headers of the container are not counted.
"""

from math import prod
from typing import assert_never

from qcompile.policy.scheme import Granularity, PerChannel, PerGroup, PerTensor, PerToken, QuantSlot

SCALE_BYTES = 4
ZERO_POINT_BYTES = 1


def channel_axis(granularity: Granularity, output_axis: int, rank: int) -> int:
    """The axis of the weight itself along which scales differ.

    ``PerChannel.axis`` counts with the output axis moved to the front, so that ``per_channel``
    means output channels for a ``[out, in]`` and for a ``[in, out]`` matrix alike.
    """
    output_axis %= max(rank, 1)
    if not isinstance(granularity, PerChannel):
        return output_axis
    axes = [output_axis, *(axis for axis in range(rank) if axis != output_axis)]
    return axes[granularity.axis]


def packed_size(count: int, bits: int) -> int:
    """Bytes of ``count`` codes in one bit stream; only the end of the stream is padded."""
    return -(-count * bits // 8)


def weight_bytes(spec: QuantSlot, shape: tuple[int, ...], output_axis: int) -> int:
    """Codes, scales and zero points of a weight."""
    scales = prod(weight_scale_shape(spec.granularity, shape, output_axis))
    return packed_size(prod(shape), spec.bits) + scales * _bytes_per_scale(spec)


def activation_bytes(spec: QuantSlot, channels: int | None) -> int:
    """Scales and zero points of one activation; none when the range is found at run time."""
    granularity = spec.granularity
    match granularity:
        case PerToken():
            return 0
        case PerTensor():
            scales = 1
        case PerChannel():
            if channels is None:
                raise ValueError("the channel count of a per-channel activation is not known")
            scales = channels
        case PerGroup():
            raise ValueError("activations have no group granularity")
        case _:
            assert_never(granularity)
    return 0 if spec.dynamic else scales * _bytes_per_scale(spec)


def weight_scale_shape(
    granularity: Granularity, shape: tuple[int, ...], output_axis: int
) -> tuple[int, ...]:
    """Shape of scale and zero point on disk; a row is the weight viewed as ``[out, row]``."""
    axis = channel_axis(granularity, output_axis, len(shape))
    match granularity:
        case PerTensor():
            return (1,)
        case PerChannel():
            return (shape[axis],)
        case PerGroup(size=size):
            row = prod(shape) // max(shape[axis], 1)
            return (shape[axis], -(-row // size))
        case PerToken():
            raise ValueError("weights have no token granularity")
        case _:
            assert_never(granularity)


def _bytes_per_scale(spec: QuantSlot) -> int:
    return SCALE_BYTES if spec.symmetric else SCALE_BYTES + ZERO_POINT_BYTES
