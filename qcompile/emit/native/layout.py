"""Codes of a weight in the order in which the product reads them.

``[outputs / 16, inputs / (4 * steps), 16, 4]`` bytes, ``steps = 8 / bits``: 64 bytes are four
inputs of each of 16 outputs, times ``steps``; the first four in the lowest bits, the next four in
the bits above. Scales and zero points are ``[outputs / 16, groups, 16]``.
"""

import torch
from torch import Tensor

from qcompile.emit.native.assembly import LANES

QUARTET = 4
"""Inputs of one output that are multiplied at a time: the bytes of a lane."""
VECTOR = LANES * QUARTET
"""Bytes."""
CHUNK = 32
"""Inputs in one round of the product: the size of a group is a multiple of it."""
WIDTHS = (2, 4, 8)
"""Bits of a code."""


def steps_of(bits: int) -> int:
    return 8 // bits


def vectors_of(bits: int) -> int:
    """In a chunk."""
    return CHUNK // (QUARTET * steps_of(bits))


def width_for(codes: Tensor) -> int:
    """The least one that holds all codes."""
    largest = int(codes.amax())
    return next(bits for bits in WIDTHS if largest < 1 << bits)


def pack_codes(codes: Tensor, bits: int) -> Tensor:
    """From uint8 ``[outputs, inputs]``."""
    outputs, inputs = codes.shape
    steps = steps_of(bits)
    parts = codes.view(outputs // LANES, LANES, inputs // (QUARTET * steps), steps, QUARTET)
    packed = torch.zeros_like(parts[:, :, :, 0])
    for step in range(steps):
        packed |= parts[:, :, :, step] << (bits * step)
    return packed.transpose(1, 2).contiguous()


def inputs_of(packed: Tensor, bits: int) -> int:
    return packed.shape[1] * QUARTET * steps_of(bits)


def pack_sides(values: Tensor) -> Tensor:
    """Scales or zero points, from ``[outputs, groups]``."""
    outputs, groups = values.shape
    return values.view(outputs // LANES, LANES, groups).transpose(1, 2).contiguous()
