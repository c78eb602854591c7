"""A planned weight as the integers and scales of a matrix, for formats that lay them out anew."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from qcompile.emit.planned_tensors import weight_plans
from qcompile.passes.sweep_site import weight_names
from qcompile.policy.core import PlanCore, TensorPlan
from qcompile.policy.number_format import IntFormat
from qcompile.quant.packing import unpack


@dataclass(frozen=True, slots=True, eq=False)
class PackedMatrix:
    """``scale * (code - zero_point)`` with both integers counted from 0.

    ``codes`` are uint8 ``[out, in]``, ``scale`` and ``zero_point`` ``[out or 1, groups]``.
    """

    name: str
    plan: TensorPlan
    codes: Tensor
    scale: Tensor
    zero_point: Tensor

    @property
    def bits(self) -> int:
        return self.plan.spec.bits


def packed_matrices(core: PlanCore, tensors: Mapping[str, Tensor]) -> dict[str, PackedMatrix]:
    """By storage, those in integers; the plan holds but matrices with ``output_axis`` 0."""
    return {
        weight_names(plan)[1]: _matrix(weight_names(plan)[1], plan, tensors)
        for plan in weight_plans(core)
        if isinstance(plan.spec.format, IntFormat)
    }


def _matrix(name: str, plan: TensorPlan, tensors: Mapping[str, Tensor]) -> PackedMatrix:
    rows, columns = plan.shape
    codes = unpack(tensors[f"{name}:codes"], plan.spec.bits, rows * columns)
    scale = tensors[f"{name}:scale"]
    scale = scale.reshape(*scale.shape, 1) if scale.dim() == 1 else scale
    stored = tensors.get(f"{name}:zero_point")
    zero = torch.full(scale.shape, -plan.spec.integer.qmin, dtype=torch.int64)
    if stored is not None:
        zero = stored.to(torch.int64).reshape(scale.shape)
    return PackedMatrix(name, plan, codes.reshape(rows, columns), scale, zero)
