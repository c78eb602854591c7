"""float32 to uint8 codes in one pass over memory, where this torch still can.

The fast way makes a tensor of a quantized dtype, which torch will remove
(https://github.com/pytorch/pytorch/issues/184982); without it five elementwise passes do the same
at a sixth of the speed.
"""

import warnings
from functools import cache

import torch
from torch import Tensor

BYTE = (0, 255)


def quantize_to_bytes(x: Tensor, scale: float, zero_point: int) -> Tensor:
    """``round(x / scale) + zero_point`` in ``[0, 255]``, in the memory layout of ``x``.

    The fast way multiplies by ``1 / scale``, so that a number within rounding of the middle between
    two codes may get the other one.
    """
    if not _has_quantized_dtypes():
        steps = torch.div(x, scale).round_().add_(zero_point).clamp_(*BYTE)
        return steps.to(torch.uint8)
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
