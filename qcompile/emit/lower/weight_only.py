"""Linear layers whose weight alone is on a grid: packed codes for few rows, float for many."""

import torch
from torch import Tensor

from qcompile.compat import tensor_cores
from qcompile.compat.cpu_features import multiplies_bf16
from qcompile.compat.weight_only_operations import pack_int4
from qcompile.emit.lower.kernels import int4_linear, int8_linear
from qcompile.emit.lower.layer import Layer
from qcompile.emit.lower.rewriting import Rewriting
from qcompile.emit.lower.stored_weight import StoredWeight

GROUPS = (256, 128, 64, 32)
"""Sizes that the 4-bit kernel knows; a whole row is cut into the largest that fits."""
MOST_CODES = 16
MIDDLE = 8
"""The code that the 4-bit kernel takes for zero."""


def pack_for(device: torch.device, codes: Tensor) -> Tensor:
    """Codes 0..15 ``[out, in]`` as the 4-bit product of the device wants them."""
    if device.type == "cpu":
        return pack_int4(codes)
    return tensor_cores.pack_int4(codes.to(device))


def int4(rewriting: Rewriting, layer: Layer, few_rows: int, device: torch.device) -> None:
    weight, name = layer.weight, layer.node.name
    inputs, columns = weight.codes.shape[1], weight.scale.shape[1]
    group = inputs // columns
    if columns == 1:
        group = next(size for size in GROUPS if inputs % size == 0)
    scale, zero_point = (
        part.repeat_interleave(inputs // group // columns, 1)
        for part in (weight.scale, weight.zero_point)
    )
    shift = _shift(layer.weight)
    offset = (MIDDLE - zero_point - shift) * scale
    both = torch.stack((scale, offset), -1).transpose(0, 1).to(torch.bfloat16).contiguous()
    rows = weight.codes.t()
    two_in_a_byte = rows[: inputs // 2] | (rows[inputs // 2 :] << 4)
    shifted = -weight.zero_point * weight.scale
    with rewriting.graph.inserting_before(layer.node):
        kept = (
            rewriting.buffer(f"{name}_codes", two_in_a_byte.contiguous()),
            rewriting.buffer(f"{name}_scale", weight.scale.t()[:, None].contiguous()),
            rewriting.buffer(f"{name}_offset", shifted.t()[:, None].contiguous()),
        )
        packed = rewriting.buffer(
            f"{name}_packed", pack_for(device, weight.codes.to(torch.int32) + shift)
        )
        narrow = rewriting.buffer(f"{name}_narrow", both)
        made = rewriting.call(
            int4_linear,
            layer.source_now,
            packed,
            group,
            narrow,
            kept,
            layer.bias,
            few_rows,
            _wide() if device.type == "cpu" else torch.bfloat16,
        )
    rewriting.replace(layer.node, made)


def _shift(weight: StoredWeight) -> int:
    """What brings zero next to the kernel's own: the offset that is left is kept in bfloat16."""
    wanted = MIDDLE - round(weight.zero_point.mean().item())
    lowest, highest = int(weight.codes.amin()), int(weight.codes.amax())
    return max(-lowest, min(wanted, MOST_CODES - 1 - highest))


def _wide() -> torch.dtype:
    """What many rows are multiplied in: without instructions for it, bfloat16 is the slower one."""
    return torch.bfloat16 if multiplies_bf16() else torch.float32


def int8(rewriting: Rewriting, layer: Layer, few_rows: int) -> None:
    name = layer.node.name
    codes: Tensor = layer.weight.centred()
    scale = layer.weight.scale[:, 0].contiguous()
    with rewriting.graph.inserting_before(layer.node):
        made = rewriting.call(
            int8_linear,
            layer.source_now,
            rewriting.buffer(f"{name}_codes", codes),
            rewriting.buffer(f"{name}_scale", scale),
            rewriting.buffer(f"{name}_narrow", scale.to(torch.bfloat16)),
            layer.bias,
            few_rows,
            _wide(),
        )
    rewriting.replace(layer.node, made)
