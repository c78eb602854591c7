"""What stands in a graph that is lowered for tensor cores: functions of torch on any device."""

import torch
from torch import Tensor

from qcompile.compat.quantize_to_bytes import quantize_to_floats
from qcompile.compat.tensor_cores import multiply_fp8, multiply_int8
from qcompile.emit.lower.exact_kernels import scaled
from qcompile.emit.lower.kernels import add_outer, codes_now, finished_now
from qcompile.quant.fake_quantize import RunTimeRange, e4m3_scale

StaticGrid = tuple[float, int, int]
"""The fields of a ``StaticInput``."""


def int8_linear(
    x: Tensor,
    packed: Tensor,
    column_sums: Tensor,
    grid: StaticGrid,
    zero_point: int,
    factor: Tensor,
    bias: Tensor | None,
    outer: Tensor | None,
) -> Tensor:
    """int8 rows by ``packed``: what ``exact_linear`` makes of the codes of ``x`` on ``grid``.

    ``column_sums`` are int32, those of each output's codes.
    """
    rows, made = _rows_and_result(x, factor, outer)
    if rows.shape[0] == 0:
        return made
    codes, top = quantize_to_floats(rows, *grid), grid[-1]
    product = scaled(_sums(codes, top, zero_point, packed, column_sums), factor, bias)
    return (product if outer is None else add_outer(product, outer)).view(made.shape)


def dynamic_int8_linear(
    x: Tensor,
    packed: Tensor,
    column_sums: Tensor,
    factor: Tensor,
    factored_sums: Tensor,
    outer: Tensor | None,
    bias: Tensor | None,
    ranges: RunTimeRange,
) -> Tensor:
    """The same of ``exact_dynamic_linear``; ``factored_sums`` are its ``column_sums``."""
    rows, made = _rows_and_result(x, factor, outer)
    if rows.shape[0] == 0:
        return made
    qmin, qmax, *_ = ranges
    found = codes_now(rows, ranges)
    sums = _sums(found.codes, qmax - qmin, found.middle, packed, column_sums)
    product = sums.to(torch.float32).mul_(factor)
    return finished_now(product, found, factored_sums, outer, bias).view(made.shape)


def _rows_and_result(x: Tensor, factor: Tensor, outer: Tensor | None) -> tuple[Tensor, Tensor]:
    outputs = factor.numel() - (outer is not None)
    return x.reshape(-1, x.shape[-1]), x.new_empty(*x.shape[:-1], outputs)


def _sums(codes: Tensor, top: int, zero_point: int, packed: Tensor, column_sums: Tensor) -> Tensor:
    """int32, of ``codes - zero_point``; ``codes``, of ``[0, top]``, are brought to int8."""
    middle = (top + 1) // 2
    sums = multiply_int8(codes.sub_(middle).to(torch.int8), packed)[:, : column_sums.numel()]
    return sums + (middle - zero_point) * column_sums


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
