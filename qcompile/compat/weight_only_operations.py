"""Products of bfloat16 rows with a weight that is unpacked on the way: private names of ``aten``.

Both are fast for few rows and in bfloat16 only; their float32 and float16 forms are scalar loops.
``_weight_int8pack_mm`` reads past the end of rows whose length is no multiple of 16 (torch 2.13),
which its callers rule out.
"""

from typing import cast

import torch
from torch import Tensor

INNER_TILES = 1
"""Means nothing on a CPU, and has to be given."""


def pack_int4(codes: Tensor) -> Tensor:
    """Codes 0..15 ``[out, in]`` as int32; ``out`` is a multiple of 16."""
    return cast("Tensor", torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, INNER_TILES))


def multiply_int4(x: Tensor, packed: Tensor, group: int, scales_and_zeros: Tensor) -> Tensor:
    """``x [rows, in]`` by ``(code - 8) * scale + zero``, both ``[in / group, out, 2]``.

    Packed for the device of ``x``, by ``pack_int4`` here or by that of ``tensor_cores``.
    """
    family = torch.ops.aten
    operation = family._weight_int4pack_mm if x.is_cuda else family._weight_int4pack_mm_for_cpu
    return cast("Tensor", operation(x, packed, group, scales_and_zeros))


def multiply_int8(x: Tensor, codes: Tensor, scale: Tensor) -> Tensor:
    """``x [rows, in]`` by ``codes [out, in] * scale [out]``; ``in`` is a multiple of 16."""
    return cast("Tensor", torch.ops.aten._weight_int8pack_mm(x, codes, scale))
