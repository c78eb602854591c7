"""Small floats as compressed-tensors lays them out. Our codes are their bit patterns already."""

from collections.abc import Mapping
from types import MappingProxyType

import torch
from pydantic import JsonValue
from torch import Tensor

from qcompile.passes.sweep_site import weight_names
from qcompile.policy.core import TensorPlan
from qcompile.policy.number_format import BlockFormat, NumberFormat
from qcompile.policy.scheme import PerChannel, QuantSlot

FORMS: Mapping[str, str] = MappingProxyType(
    {
        "fp8_e4m3": "float-quantized",
        "mxfp8": "mxfp8-quantized",
        "mxfp4": "mxfp4-pack-quantized",
        "nvfp4": "nvfp4-pack-quantized",
    }
)
"""What compressed-tensors calls the formats that it holds."""
WITH_TENSOR_SCALE = "nvfp4"


def level_tensors(
    module: str, plan: TensorPlan, tensors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """A byte for each number, or for two; the scale of a block is a byte too."""
    name = weight_names(plan)[1]
    number, (rows, columns) = plan.spec.format, plan.shape
    codes = tensors[f"{name}:codes"]
    if number.bits == 8:
        made = {f"{module}.weight": codes.view(torch.float8_e4m3fn).reshape(rows, columns)}
    else:
        made = {f"{module}.weight_packed": codes.reshape(rows, columns // 2)}
    scale = tensors[f"{name}:scale"]
    if _has_tensor_scale(number):
        scale = scale.view(torch.float8_e4m3fn)
        made[f"{module}.weight_global_scale"] = 1 / tensors[f"{name}:tensor_scale"]
    is_by_row = isinstance(plan.spec.granularity, PerChannel)
    made[f"{module}.weight_scale"] = scale.reshape(rows, 1) if is_by_row else scale
    return made


def level_arguments(spec: QuantSlot) -> dict[str, JsonValue]:
    """What the arguments of an integer do not have."""
    found: dict[str, JsonValue] = {"type": "float"}
    if isinstance(spec.format, BlockFormat):
        byte = "torch.float8_e4m3fn" if _has_tensor_scale(spec.format) else "torch.uint8"
        found |= {"scale_dtype": byte, "zp_dtype": byte}
    if _has_tensor_scale(spec.format):
        found["strategy"] = "tensor_group"
    return found


def _has_tensor_scale(number: NumberFormat) -> bool:
    return str(number) == WITH_TENSOR_SCALE
