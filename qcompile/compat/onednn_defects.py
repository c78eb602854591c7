"""What oneDNN's int8 convolution gets wrong on some processors, found out by a product of each.

With AMX (oneDNN 3.12, torch 2.13): images padded with a zero point in groups of several channels,
and results that are one pixel wide, several high, and strided along the width. Without it neither,
but the last of images with one channel, in float32 as well.
"""

from functools import cache
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from qcompile.compat.onednn_operations import onednn

ZERO_POINT = 3


@cache
def miscounts_zero_points_in_groups() -> bool:
    return not _is_right(64, 9, 9, (3, 3), stride=(1, 1), padding=(1, 1), groups=2)


@cache
def miscounts_one_column() -> bool:
    return not _is_right(16, 9, 4, (1, 3), stride=(1, 2), padding=(0, 0), groups=1)


def _is_right(
    outputs: int,
    height: int,
    width: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    groups: int,
) -> bool:
    names = onednn()
    if names is None:
        return True
    inputs, outputs = 3 * groups, outputs * groups
    zero_point = ZERO_POINT if any(padding) else 0
    images = torch.arange(inputs * height * width) % 251
    codes = images.view(1, inputs, height, width).to(torch.uint8)
    weight = (torch.arange(outputs * 3 * kernel[0] * kernel[1]) % 239 - 119).to(torch.int8)
    weight = weight.view(outputs, 3, *kernel)
    one, zeros = torch.ones(outputs), torch.zeros(outputs, dtype=torch.int64)
    shape = (list(stride), list(padding), [1, 1], groups)
    packed = names.pack_conv(weight, one, 1.0, zero_point, *shape, list(codes.shape))
    found = cast(
        "Tensor",
        names.conv2d(
            *(codes.contiguous(memory_format=torch.channels_last), 1.0, zero_point),
            *(packed, one, zeros, None, *shape, 1.0, 0, torch.float32, "none", [], ""),
        ),
    )
    around, wide = codes.double() - zero_point, weight.double()
    sums = functional.conv2d(around, wide, None, stride, padding, 1, groups)
    return torch.equal(found, sums.float())
