"""The int8 codes that stand for a weight in an integer product, also where it has nine bits.

``code - zero_point`` of an 8-bit weight lies in ``[-255, 255]``, and the kernels multiply by
``[-128, 127]``. A convolution is given its images twice then, and for each code two, of which the
sum is the right one: exact for every padding and stride, and in groups. A linear layer has one
output more, the sum of its inputs ``x``, which is half the work: with ``C = code - middle``,
``W x = scale * (C x) + scale * offset * sum(x)``.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from qcompile.emit.lower.layer import ConvShape, Layer
from qcompile.emit.lower.stored_weight import StoredWeight

CHANNELS, ROWS = 1, 2
"""Axes of images."""
BYTE = (-128, 127)


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    codes: Tensor
    """``[out, ...]``, int8 for kernels; ``[out + 1, in]`` where there is an ``offset``."""
    scale: Tensor
    """``[out]``, negative where the codes are of the other sign."""
    conv: ConvShape | None
    twice: int | None = None
    """The axis of the images on which each number comes twice."""
    offset: Tensor | None = None
    """``[out]``: ``scale * offset`` times the last output belongs to each of the others."""

    @property
    def largest_sum(self) -> int:
        """Of sizes of codes, for the output that has most."""
        return int(self.codes.to(torch.int64).abs_().flatten(1).sum(1).amax())


def product_of(layer: Layer) -> Product:
    """For a layer of which ``weight.scale`` is ``[out, 1]``."""
    weight, scale = layer.weight, layer.weight.scale[:, 0].contiguous()
    if not has_nine_bits(weight):
        return Product(weight.centred(), scale, layer.conv)
    if layer.conv is None:
        return _with_sum(weight, scale)
    return _doubled(weight, scale, layer.conv)


def whole_product(layer: Layer) -> Product:
    """The same numbers for arithmetic that takes nine bits as they are: no image comes twice."""
    if layer.conv is None or not has_nine_bits(layer.weight):
        return product_of(layer)
    scale = layer.weight.scale[:, 0].contiguous()
    return Product(layer.weight.around_zero(), scale, layer.conv)


def has_nine_bits(weight: StoredWeight) -> bool:
    low, high = weight.centred_range()
    return low < BYTE[0] or high > BYTE[1]


def axis_to_double(conv: ConvShape, kernel: tuple[int, int]) -> int | None:
    """Rows, as copies that lie in one piece; where pixels are multiplied one by one, channels.

    ``None``: two rows of a kernel that lie apart cannot become four at equal distances.
    """
    rows_fit = conv.dilation[0] == 1 or kernel[0] == 1
    if conv.groups == 1 and (kernel == (1, 1) or not rows_fit):
        return CHANNELS
    return ROWS if rows_fit else None


def _with_sum(weight: StoredWeight, scale: Tensor) -> Product:
    """The middle is as near to the zero point as codes allow: what is added then comes small."""
    wide, zero = weight.codes.to(torch.int16), weight.zero_point[:, 0].to(torch.int16)
    middle = torch.clamp(zero, wide.amax(1) - BYTE[1], wide.amin(1) - BYTE[0])
    codes = (wide - middle[:, None]).to(torch.int8)
    with_sum = torch.cat((codes, torch.ones_like(codes[:1])))
    return Product(with_sum, scale, None, offset=(middle - zero).to(torch.float32))


def _doubled(weight: StoredWeight, scale: Tensor, conv: ConvShape) -> Product:
    """255 is no sum of two codes, -255 is: outputs that have it change their sign."""
    wide = weight.around_zero()
    turned = wide.flatten(1).amax(1) == 2 * BYTE[1] + 1
    wide = torch.where(turned[:, None, None, None], -wide, wide)
    half = wide >> 1
    codes = half.to(torch.int8), (wide - half).to(torch.int8)
    scale = torch.where(turned, -scale, scale)
    outputs, inputs, height, width = wide.shape
    axis = axis_to_double(conv, (height, width))
    if axis == CHANNELS:
        return Product(torch.cat(codes, 1), scale, conv, CHANNELS)
    assert axis == ROWS, "limits of the kernel"
    both = torch.stack(codes, 3).reshape(outputs, inputs, 2 * height, width)
    (down, right), (top, left) = conv.stride, conv.padding
    twice = replace(
        conv, stride=(2 * down, right), padding=(2 * top, left), dilation=(1, conv.dilation[1])
    )
    return Product(both, scale, twice, ROWS)
