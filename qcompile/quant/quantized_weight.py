"""A weight as it lies on disk: packed codes, scales, zero points."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor

from qcompile.policy.scheme import QuantSlot
from qcompile.policy.size import channel_axis
from qcompile.quant.fake_quantize import dequantize_weight, stored_grid, stored_zero_point
from qcompile.quant.grid import Grid
from qcompile.quant.grouping import grouping
from qcompile.quant.packing import pack, unpack
from qcompile.quant.rounding import nearest


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedWeight:
    """Codes ``code - qmin`` in one bit stream over the weight's own row-major order.

    ``scale`` (float32) and ``zero_point`` (uint8, offset like the codes; ``None`` when symmetric)
    are ``[1]``, ``[channels]`` or ``[out, groups]``. A scale is negative where a symmetric grid was
    turned around: with ``zero_point`` -1 a code ``c`` stands for what ``-1 - c`` does on a scale of
    the other sign.
    """

    packed: Tensor
    scale: Tensor
    zero_point: Tensor | None
    spec: QuantSlot
    shape: tuple[int, ...]
    output_axis: int

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors("").values())

    def dequantize(self, dtype: torch.dtype) -> Tensor:
        return dequantize_weight(
            self.packed,
            self.scale,
            self.zero_point,
            self.spec.bits,
            self.spec.integer.qmin,
            self.shape,
            channel_axis(self.spec.granularity, self.output_axis, len(self.shape)),
            dtype,
        )

    def decoded(self) -> tuple[Tensor, Grid]:
        """What ``encode`` was given: codes (int16) and a grid of positive scales."""
        view = grouping(self.spec.granularity, self.shape, self.output_axis)
        number = self.spec.integer
        codes = unpack(self.packed, self.spec.bits, prod(self.shape)).to(torch.int16) + number.qmin
        per_group = (view.outer, view.groups, 1)
        grid = stored_grid(self.scale, self.zero_point, number.qmin, number.qmax, per_group)
        is_turned = grid.scale < 0
        grid = replace(
            grid, scale=grid.scale.abs(), zero_point=grid.zero_point - is_turned.to(torch.float32)
        )
        return _turned(view.view(codes.reshape(self.shape)), is_turned), grid

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """Artifact tensors; ``prefix`` is the path of the parameter."""
        found = {f"{prefix}:codes": self.packed, f"{prefix}:scale": self.scale}
        if self.zero_point is not None:
            found[f"{prefix}:zero_point"] = self.zero_point
        return found


def from_tensors(
    tensors: Mapping[str, Tensor],
    prefix: str,
    spec: QuantSlot,
    shape: tuple[int, ...],
    output_axis: int,
) -> QuantizedWeight:
    """The inverse of ``QuantizedWeight.tensors``."""
    zero_point = None if spec.symmetric else tensors[f"{prefix}:zero_point"]
    packed, scale = tensors[f"{prefix}:codes"], tensors[f"{prefix}:scale"]
    return QuantizedWeight(packed, scale, zero_point, spec, shape, output_axis)


def encode(
    codes: Tensor, grid: Grid, spec: QuantSlot, shape: tuple[int, ...], output_axis: int
) -> QuantizedWeight:
    """Codes in the view ``[outer, groups, size]`` and their float32 grid, packed."""
    if grid.scale.dtype != torch.float32:
        raise ValueError(f"codes were chosen on a {grid.scale.dtype} grid; the disk has float32")
    view = grouping(spec.granularity, shape, output_axis)
    zero_point = None if spec.symmetric else stored_zero_point(grid).reshape(view.scale_shape)
    scale = grid.scale
    if spec.has_signed_scale:
        is_turned = grid.zero_point != 0
        codes, scale = _turned(codes, is_turned), torch.where(is_turned, -scale, scale)
    return QuantizedWeight(
        packed=pack(view.restore(codes) - spec.integer.qmin, spec.bits),
        scale=scale.reshape(view.scale_shape),
        zero_point=zero_point,
        spec=spec,
        shape=shape,
        output_axis=output_axis,
    )


def _turned(codes: Tensor, where: Tensor) -> Tensor:
    """The codes of the same numbers on a scale of the other sign."""
    return torch.where(where, -1 - codes, codes)


def quantize_weight(
    weight: Tensor, spec: QuantSlot, output_axis: int, grid: Grid
) -> QuantizedWeight:
    """``weight`` rounded to nearest on ``grid``, whose parameters are ``[outer, groups, 1]``."""
    shape = tuple(weight.shape)
    grouped = grouping(spec.granularity, shape, output_axis).view(weight)
    return encode(nearest(grouped, grid), grid, spec, shape, output_axis)
