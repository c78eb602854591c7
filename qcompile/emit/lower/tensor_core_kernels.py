"""What stands in a graph that is lowered for tensor cores: functions of torch on any device."""

import torch
from torch import Tensor

from qcompile.compat.tensor_cores import multiply_fp8, multiply_int8
from qcompile.quant.fake_quantize import RunTimeRange, covering_now, e4m3_scale

Input = tuple[float, int, int] | RunTimeRange
"""The fields of a ``StaticInput``, or of a ``DynamicInput``."""


def int8_product(
    x: Tensor,
    packed: Tensor,
    column_sums: Tensor,
    offset: Tensor | None,
    scale: Tensor,
    bias: Tensor | None,
    ranges: Input,
) -> Tensor:
    """The sums are whole numbers up to the scales: int8 rows by ``packed``, see ``Product``.

    ``column_sums`` are int32, those of each output's codes, and so is ``offset``.
    """
    rows = x.reshape(-1, x.shape[-1])
    made = x.new_empty(*x.shape[:-1], scale.numel())
    if rows.shape[0] == 0:
        return made
    codes, step, zero = _codes(rows, ranges)
    sums = multiply_int8(codes, packed)[:, : column_sums.numel()] - zero * column_sums
    if offset is not None:
        sums = sums[:, :-1] + offset * sums[:, -1:]
    product = sums.to(torch.float32).mul_(scale).mul_(step)
    product = product if bias is None else product.add_(bias)
    return product.view(made.shape)


def fp8_product(
    x: Tensor, packed: Tensor, scale: Tensor, bias: Tensor | None, per_token: bool
) -> Tensor:
    """e4m3 rows by ``packed``, summed in float32; scales come behind the sums."""
    rows = x.reshape(-1, x.shape[-1])
    made = x.new_empty(*x.shape[:-1], scale.numel())
    if rows.shape[0] == 0:
        return made
    step = e4m3_scale(rows, per_token)
    codes = (rows / step).to(torch.float8_e4m3fn)
    product = multiply_fp8(codes, packed)[:, : scale.numel()] * scale * step
    product = product if bias is None else product.add_(bias)
    return product.view(made.shape)


def _codes(rows: Tensor, ranges: Input) -> tuple[Tensor, Tensor | float, Tensor | int]:
    """int8 codes, their step, and the code of zero: one of all, or one a row ``[rows, 1]``."""
    if len(ranges) == 3:
        step, zero_point, top = ranges
        middle = (top + 1) // 2
        codes = torch.div(rows, step).round_().add_(zero_point).clamp_(0, top).sub_(middle)
        return codes.to(torch.int8), step, zero_point - middle
    qmin, qmax, *_ = ranges
    grid = covering_now(rows, *ranges)
    middle = (qmin + qmax + 1) // 2
    codes = torch.div(rows, grid.scale).round_().add_(grid.zero_point)
    codes = codes.clamp_(qmin, qmax).sub_(middle).to(torch.int8)
    return codes, grid.scale, (grid.zero_point - middle).to(torch.int32)
