"""The levels of each family of formats, by code and without scale.

A level that no code stands for (a NaN pattern of a small float) is NaN. Float32, as on disk.
"""

import torch
from torch import Tensor

from qcompile.policy.number_format import (
    BlockFormat,
    CodebookFormat,
    Element,
    FloatFormat,
    IntFormat,
    LogFormat,
    NormalFormat,
    PowerFormat,
    SingleFormat,
)

NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
"""Of QLoRA (2305.14314)."""


def levels(number: SingleFormat, parameter: Tensor | None = None) -> Tensor:
    """``parameter`` is what the format stores with the tensor: an exponent, or the levels."""
    match number:
        case IntFormat():
            return torch.arange(number.qmin, number.qmax + 1, dtype=torch.float32)
        case PowerFormat(bits, exponent):
            chosen = float(parameter) if parameter is not None else exponent
            if chosen is None:
                raise ValueError("a power grid without an exponent")
            return power_levels(bits, chosen)
        case NormalFormat():
            return torch.tensor(NF4)
        case CodebookFormat():
            if parameter is None:
                raise ValueError("a codebook without levels")
            return parameter
        case FloatFormat() | BlockFormat():
            return float_levels(number.element)
        case LogFormat(bits, root):
            return log_levels(bits, root=root)


def power_levels(bits: int, exponent: float) -> Tensor:
    """``2 K + 1`` levels in [-1, 1], computed in float64 so that every machine has the same."""
    last = (1 << (bits - 1)) - 1
    steps = torch.arange(-last, last + 1, dtype=torch.float64) / last
    return (steps.sign() * steps.abs() ** (1 / exponent)).float()


def log_levels(bits: int, *, root: bool) -> Tensor:
    """0, then the powers of 1/2, or of its root, up to 1; float64 as for ``power_levels``."""
    steps = torch.arange((1 << bits) - 2, -1, -1, dtype=torch.float64)
    powers = torch.exp2(-steps / 2 if root else -steps)
    return torch.cat([torch.zeros(1, dtype=torch.float64), powers]).float()


def float_levels(element: Element) -> Tensor:
    """By bit pattern: sign, exponent, mantissa (OCP FP8; Microscaling v1.0, 5.3)."""
    exponent_bits, mantissa_bits = int(element[1]), int(element[3])
    bias = _bias(exponent_bits)
    half = 1 << (exponent_bits + mantissa_bits)
    pattern = torch.arange(half, dtype=torch.float64)
    exponent = torch.floor(pattern / (1 << mantissa_bits))
    mantissa = pattern % (1 << mantissa_bits) / (1 << mantissa_bits)
    normal = (1 + mantissa) * 2.0 ** (exponent - bias)
    positive = torch.where(exponent > 0, normal, mantissa * 2.0 ** (1 - bias))
    if element == "e4m3":
        positive[-1] = torch.nan
    if element == "e5m2":
        positive[-(1 << mantissa_bits) :] = torch.nan
    return torch.cat([positive, -positive]).float()


def largest_exponent(element: Element) -> int:
    """The exponent of the largest number: what an mx scale leaves to the element."""
    exponent_bits = int(element[1])
    top = (1 << exponent_bits) - 1 - _bias(exponent_bits)
    return top - 1 if element == "e5m2" else top  # whose last exponent is for what is no number


def _bias(exponent_bits: int) -> int:
    return (1 << (exponent_bits - 1)) - 1
