"""The int8 operations of oneDNN, which torch has for Inductor and documents nowhere.

Traps, on torch 2.13 with a processor that has VNNI and no AMX: signed inputs fall back to a kernel
that is hundreds of times slower, so inputs are always ``uint8``; ``qconv2d_pointwise.binary``
overwrites the tensor that it adds. With AMX, convolutions multiply their sums by the product of the
two scales, not by one and then the other.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

Operation = Callable[..., object]


@dataclass(frozen=True, slots=True)
class OneDnn:
    """Overloads: plain, and with a second tensor that is added before the last activation."""

    linear: Operation
    linear_add: Operation
    conv2d: Operation
    conv2d_add: Operation
    pack_linear: Operation
    pack_conv: Operation


def order_of(packed: Tensor) -> bytes:
    """In which order the numbers of a packed weight lie; another one is made in every call."""
    described = torch.ops.mkldnn._get_mkldnn_serialized_md(packed)  # pyright: ignore[reportPrivateUsage]
    return bytes(described.tolist())


@cache
def onednn() -> OneDnn | None:
    """``None`` where this torch was built without them."""
    if not torch.backends.mkldnn.is_available():
        return None
    family = torch.ops.onednn
    try:
        return OneDnn(
            linear=family.qlinear_pointwise.default,
            linear_add=family.qlinear_pointwise.binary,
            conv2d=family.qconv2d_pointwise.default,
            conv2d_add=family.qconv2d_pointwise.binary,
            pack_linear=family.qlinear_prepack.default,
            pack_conv=family.qconv_prepack.default,
        )
    except AttributeError:
        return None
