"""float32 to codes from zero on: as float32, or as uint8 in one pass where this torch still can.

The fast way makes a tensor of a quantized dtype, which torch will remove
(https://github.com/pytorch/pytorch/issues/184982); without it five elementwise passes do the same
at a sixth of the speed.

Both ways, and oneDNN where a product writes codes, round ``x * (1 / scale) + zero_point``, the
product being a float32 number of its own. Division, or a zero point added behind the rounding,
gives another code to some numbers within rounding of the middle between two.
"""

import warnings
from functools import cache

import torch
from torch import Tensor

BYTE = (0, 255)


def quantize_to_floats(x: Tensor, scale: float, zero_point: int, top: int = BYTE[1]) -> Tensor:
    """Codes in ``[0, top]``, in the memory layout of ``x``; no numbers stay none."""
    return (x * (1 / scale)).add_(zero_point).round_().clamp_(0, top)


def quantize_to_bytes(x: Tensor, scale: float, zero_point: int) -> Tensor:
    """Codes in ``[0, 255]``, in the memory layout of ``x``."""
    if not _has_quantized_dtypes():
        return quantize_to_floats(x, scale, zero_point).to(torch.uint8)
    if zero_point:  # torch would round the product and the sum in one
        x, scale = x * (1 / scale), 1.0
    made = torch.quantize_per_tensor(x, scale, zero_point, torch.quint8)
    codes = torch.empty(0, dtype=torch.uint8)
    # `int_repr` would copy
    return codes.set_(made.untyped_storage(), made.storage_offset(), made.size(), made.stride())


@cache
def _has_quantized_dtypes() -> bool:
    """Find out, and take the deprecation warning, which comes once, away from the user."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            made = torch.quantize_per_tensor(torch.zeros(1), 1.0, 0, torch.quint8)
        except (AttributeError, RuntimeError, NotImplementedError):
            return False
        return made.untyped_storage().nbytes() == 1
