"""Linear layers whose weight alone is on a grid: packed codes for few rows, float for many."""

import operator

import torch
from torch import Tensor, fx
from torch.fx.node import Argument

from qcompile.compat import tensor_cores
from qcompile.compat.cpu_features import has_tiles, multiplies_bf16
from qcompile.compat.weight_only_operations import pack_int4
from qcompile.emit.lower.kernels import int4_linear, int8_linear
from qcompile.emit.lower.layer import Layer
from qcompile.emit.lower.rewriting import Rewriting
from qcompile.emit.lower.stored_weight import StoredWeight
from qcompile.emit.native.assembly import LANES
from qcompile.emit.native.layout import CHUNK, pack_codes, pack_sides, width_for
from qcompile.emit.native.multiply import code_for, missing, packed_linear
from qcompile.targets.target import Kernel

GROUPS = (256, 128, 64, 32)
"""Sizes that the 4-bit kernel knows; a whole row is cut into the largest that fits."""
MOST_CODES = 16
MIDDLE = 8
"""The code that the 4-bit kernel takes for zero."""
NO_LIMIT = 1 << 62
ON_CPU: tuple[Kernel, ...] = ("int4_weight_only", "int8_weight_only")
"""Kernels that have two forms."""
BY_US = "compiled here"
BY_TORCH = "torch's own: "


def pack_for(device: torch.device, codes: Tensor) -> Tensor:
    """Codes 0..15 ``[out, in]`` as the 4-bit product of the device wants them."""
    if device.type == "cpu":
        return pack_int4(codes)
    return tensor_cores.pack_int4(codes.to(device))


def weight_only(
    rewriting: Rewriting, kernel: Kernel, layer: Layer, few_rows: int, device: torch.device
) -> str:
    """Replace ``layer``, and give the form of ``kernel`` that did, where it has two."""
    form = ""
    if device.type == "cpu" and kernel in ON_CPU:
        why = _packed(rewriting, layer, few_rows)
        if not why:
            return BY_US
        form = BY_TORCH + why
    match kernel:
        case "int4_weight_only" | "int4_tensor_cores":
            _int4(rewriting, layer, few_rows, device)
        case "int8_weight_only":
            _int8(rewriting, layer, few_rows)
        case _:
            raise ValueError(f"`{kernel}` does not take this layer")
    return form


def _packed(rewriting: Rewriting, layer: Layer, few_rows: int) -> str:
    """By code that is compiled here; give why not where that cannot be, and leave the layer."""
    weight, name = layer.weight, layer.node.name
    outputs, inputs = weight.codes.shape
    if why := missing():
        return why
    if outputs % LANES or inputs % CHUNK:
        return f"{outputs} outputs of {inputs} inputs are no multiples of {LANES} and {CHUNK}"
    _, scale, zero_point = _in_groups(weight)
    bits = width_for(weight.codes)
    try:
        code_for(bits)
    except (ImportError, OSError, RuntimeError) as error:
        return f"LLVM makes no code here ({' '.join(str(error).split())[:80]})"
    with rewriting.graph.inserting_before(layer.node):
        parts = (
            rewriting.buffer(f"{name}_packed", pack_codes(weight.codes, bits)),
            rewriting.buffer(f"{name}_scales", pack_sides(scale)),
            rewriting.buffer(f"{name}_zeros", pack_sides(zero_point.to(torch.uint8))),
        )
        inside, behind = layer.bias, None
        if not _is_plain_bias(rewriting, layer.bias, outputs):
            zeros = torch.zeros(outputs, dtype=torch.float32)
            inside, behind = rewriting.buffer(f"{name}_bias", zeros), layer.bias
        # sums of bytes are faster than unpacking, but for products of many rows by AMX
        limit = few_rows if has_tiles() else NO_LIMIT
        made = rewriting.call(packed_linear, layer.source_now, parts, inside, bits, limit)
        if behind is not None:
            made = rewriting.call(operator.add, made, behind)
    rewriting.replace(layer.node, made)
    return ""


def _is_plain_bias(rewriting: Rewriting, bias: Argument, outputs: int) -> bool:
    """A number for each output, and known."""
    if not isinstance(bias, fx.Node) or bias.op != "get_attr":
        return False
    found = rewriting.attributes[str(bias.target)]
    is_tensor = isinstance(found, Tensor)
    return is_tensor and found.shape == (outputs,) and found.dtype == torch.float32


def _in_groups(weight: StoredWeight) -> tuple[int, Tensor, Tensor]:
    """Size, scale and zero point of groups that the kernels know; a whole row is cut into such."""
    inputs, columns = weight.codes.shape[1], weight.scale.shape[1]
    group = inputs // columns
    if columns == 1:
        group = next(size for size in GROUPS if inputs % size == 0)
    times = inputs // group // columns
    return (
        group,
        weight.scale.repeat_interleave(times, 1),
        weight.zero_point.repeat_interleave(times, 1),
    )


def _int4(rewriting: Rewriting, layer: Layer, few_rows: int, device: torch.device) -> None:
    weight, name = layer.weight, layer.node.name
    inputs = weight.codes.shape[1]
    group, scale, zero_point = _in_groups(weight)
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


def _int8(rewriting: Rewriting, layer: Layer, few_rows: int) -> None:
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
