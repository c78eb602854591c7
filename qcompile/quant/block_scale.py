"""Scales of one byte that neighbours share, from the largest of them: those of block formats."""

import torch
from torch import Tensor

from qcompile.policy.number_format import BlockFormat
from qcompile.policy.size import Part
from qcompile.quant.fake_quantize import E4M3_MAX
from qcompile.quant.levels import largest_exponent, levels

E8M0_BIAS = 127


def block_parts(largest: Tensor, number: BlockFormat) -> dict[Part, Tensor]:
    """Scales as on disk, in the shape of ``largest``, the greatest ``|x|`` of each block.

    E8M0 (Microscaling v1.0, 6.3), or E4M3 times one float of the tensor.
    """
    if number.name != "nvfp4":
        exponent = torch.frexp(largest).exponent - 1 - largest_exponent(number.element)
        exponent = torch.where(largest == 0, 0, exponent).clamp(-E8M0_BIAS, E8M0_BIAS)
        return {"scale": (exponent + E8M0_BIAS).to(torch.uint8)}
    end = levels(number).max()
    whole = largest.max() / (E4M3_MAX * end)
    whole = torch.where(whole == 0, torch.ones_like(whole), whole)
    scale = (largest / end / whole).clamp(max=E4M3_MAX).to(torch.float8_e4m3fn)
    return {"scale": scale.view(torch.uint8), "tensor_scale": whole.reshape(1)}


def true_scale(scale: Tensor, tensor_scale: Tensor | None) -> Tensor:
    """The float32 scale behind what is stored."""
    if scale.dtype != torch.uint8:
        return scale
    if tensor_scale is None:
        return torch.exp2(scale.float() - E8M0_BIAS)
    return scale.view(torch.float8_e4m3fn).float() * tensor_scale
