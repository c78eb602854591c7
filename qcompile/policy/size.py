"""What a quantized tensor is on disk, and its bytes, forecast without torch.

A weight is one bit stream of ``bits`` bits a code, a scale for each scale group, and, when
asymmetric, a uint8 zero point beside each scale; a few formats add parameters of the whole tensor,
and a sum of formats has all of this for each term. Headers of the container are not counted.
"""

from collections.abc import Iterator
from math import prod
from typing import Literal, assert_never

from qcompile.diagnostics.frozen import frozen
from qcompile.policy.number_format import (
    BlockFormat,
    CodebookFormat,
    PowerFormat,
    SingleFormat,
    terms_of,
)
from qcompile.policy.scheme import Granularity, PerChannel, PerGroup, PerTensor, PerToken, QuantSlot

SCALE_BYTES = 4
ZERO_POINT_BYTES = 1

Part = Literal["codes", "scale", "zero_point", "exponent", "levels", "tensor_scale"]
Dtype = Literal["uint8", "float32"]
ITEM_BYTES: dict[Dtype, int] = {"uint8": 1, "float32": 4}


@frozen
class StoredPart:
    """One tensor of one term of the format."""

    term: int
    part: Part
    dtype: Dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * ITEM_BYTES[self.dtype]

    def name(self, storage: str) -> str:
        return part_name(storage, self.term, self.part)


def part_name(storage: str, term: int, part: Part) -> str:
    """``fc.weight:codes``; of the second term of a sum ``fc.weight:term2.codes``."""
    return f"{storage}:{part}" if term == 0 else f"{storage}:term{term + 1}.{part}"


def weight_layout(
    spec: QuantSlot, shape: tuple[int, ...], output_axis: int
) -> Iterator[StoredPart]:
    scale = weight_scale_shape(spec.granularity, shape, output_axis)
    for term, number in enumerate(terms_of(spec.format)):
        yield StoredPart(term, "codes", "uint8", (packed_size(prod(shape), number.bits),))
        yield StoredPart(term, "scale", _scale_dtype(number), scale)
        yield from _parameters(term, number)
    if not spec.symmetric:
        yield StoredPart(0, "zero_point", "uint8", scale)


def _scale_dtype(number: SingleFormat) -> Dtype:
    """Blocks have a scale of one byte: a power of two (mx), or ``e4m3`` (nvfp4)."""
    return "uint8" if isinstance(number, BlockFormat) else "float32"


def _parameters(term: int, number: SingleFormat) -> Iterator[StoredPart]:
    match number:
        case PowerFormat(_, None):
            yield StoredPart(term, "exponent", "float32", (1,))
        case CodebookFormat(bits):
            yield StoredPart(term, "levels", "float32", (1 << bits,))
        case BlockFormat("nvfp4"):
            yield StoredPart(term, "tensor_scale", "float32", (1,))
        case _:
            return


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
    """Of all parts of a weight."""
    return sum(part.nbytes for part in weight_layout(spec, shape, output_axis))


def activation_bytes(spec: QuantSlot, channels: int | None) -> int:
    """Scales and zero points, or exponent, of one activation; none with a run-time range."""
    granularity = spec.granularity
    if spec.dynamic:
        return 0
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
            raise ValueError("static activations have no group granularity")
        case _:
            assert_never(granularity)
    parameters = sum(ITEM_BYTES[name] * length for _, name, length in activation_parameters(spec))
    return scales * _bytes_per_scale(spec) + parameters


def activation_parameters(spec: QuantSlot) -> Iterator[tuple[Part, Dtype, int]]:
    """What the format of a static activation has beside its scales: part, dtype and length."""
    for number in terms_of(spec.format):
        for part in _parameters(0, number):
            yield part.part, part.dtype, prod(part.shape)


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
