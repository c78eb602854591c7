"""What stands on an edge of the graph whose value is quantized."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from qcompile.policy.number_format import (
    BlockFormat,
    FloatFormat,
    IntFormat,
    PowerFormat,
    SingleFormat,
    has_signs,
)
from qcompile.policy.scheme import PerChannel, PerGroup, PerToken, QuantSlot
from qcompile.quant.fake_quantize import (
    RunTimeRange,
    fake_quantize,
    fake_quantize_dynamic,
    fake_quantize_e4m3,
    stored_zero_point,
)
from qcompile.quant.level_activation import (
    fake_quantize_blocks,
    fake_quantize_levels,
    fake_quantize_levels_dynamic,
)
from qcompile.quant.level_grid import level_table
from qcompile.quant.level_search import fitted_exponent, fitted_scale
from qcompile.quant.levels import levels
from qcompile.quant.range_search import activation_range
from qcompile.quant.sampling import LIMIT, Sample, sample

OF_EXPONENT = 8
"""The search for an exponent looks at so many times fewer numbers."""


@dataclass(frozen=True, slots=True, eq=False)
class ActivationQuantizer:
    """A slot with its range: ``scale`` is ``None`` where each input brings its own.

    ``zero_point`` is ``None`` for a symmetric or a run-time range, ``exponent`` (``[1]``) for all
    formats but a power grid whose exponent was searched.
    """

    spec: QuantSlot
    scale: Tensor | None = None
    zero_point: Tensor | None = None
    exponent: Tensor | None = None
    block_axis: int | None = None
    """Along which neighbours share the scale of a block format."""

    def __call__(self, x: Tensor) -> Tensor:
        per_token = isinstance(self.spec.granularity, PerToken)
        if is_e4m3_at_run_time(self.spec):
            return fake_quantize_e4m3(x, per_token)
        if not isinstance(self.spec.format, IntFormat):
            return self._on_levels(x, per_token)
        number = self.spec.integer
        if self.scale is None:
            return fake_quantize_dynamic(x, *run_time_range(self.spec))
        axis = static_axis(self.spec)
        return fake_quantize(x, self.scale, self.zero_point, number.qmin, number.qmax, axis)

    def _on_levels(self, x: Tensor, per_token: bool) -> Tensor:
        number, table = self.spec.format, self.table(x.device)
        if isinstance(number, BlockFormat):
            assert self.block_axis is not None
            return fake_quantize_blocks(x, *table, number.name, self.block_axis)
        if self.scale is None:
            return fake_quantize_levels_dynamic(x, *table, has_signs(number), per_token)
        return fake_quantize_levels(x, self.scale, *table, static_axis(self.spec))

    def table(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Values and edges of a format that is none of integers: ``level_table``."""
        number = cast("SingleFormat", self.spec.format)
        values, edges = level_table(levels(number, self.exponent))
        return values.to(device), edges.to(device)

    def with_scale(self, scale: Tensor) -> "ActivationQuantizer":
        return replace(self, scale=scale)

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """Artifact tensors; ``prefix`` is ``<site key>:<slot>``."""
        parts = {"scale": self.scale, "zero_point": self.zero_point, "exponent": self.exponent}
        return {f"{prefix}.{name}": part for name, part in parts.items() if part is not None}


def fit(
    batches: Sequence[Tensor], spec: QuantSlot, block_axis: int | None = None
) -> ActivationQuantizer:
    """The quantizer of a value, its range taken over all calibration batches."""
    if has_run_time_range(spec):
        return ActivationQuantizer(spec, block_axis=block_axis)
    drawn = sample(batches, static_axis(spec))
    if not isinstance(spec.format, IntFormat):
        return _fit_levels(drawn, batches, spec)
    grid = activation_range(drawn, spec)
    zero_point = None if spec.symmetric else stored_zero_point(grid)
    return ActivationQuantizer(spec, grid.scale, zero_point)


def _fit_levels(drawn: Sample, batches: Sequence[Tensor], spec: QuantSlot) -> ActivationQuantizer:
    number, exponent = cast("SingleFormat", spec.format), None
    if isinstance(number, PowerFormat) and number.exponent is None:
        few = _with_ends(sample(batches, static_axis(spec), LIMIT // OF_EXPONENT))
        exponent = few.new_tensor([fitted_exponent(few, number.bits, spec.observer)])
    rows = _with_ends(drawn)
    scale = fitted_scale(rows, levels(number, exponent).to(rows.device), spec.observer)
    return ActivationQuantizer(spec, scale.view(-1), exponent=exponent)


def _with_ends(drawn: Sample) -> Tensor:
    return torch.cat([drawn.values, drawn.low, drawn.high], 1)


def from_tensors(
    tensors: Mapping[str, Tensor], prefix: str, spec: QuantSlot
) -> ActivationQuantizer:
    """The inverse of ``ActivationQuantizer.tensors``; the axis of blocks lies on no disk."""
    if has_run_time_range(spec):
        return ActivationQuantizer(spec)
    zero_point = None if spec.symmetric else tensors[f"{prefix}.zero_point"]
    searched = isinstance(spec.format, PowerFormat) and spec.format.exponent is None
    exponent = tensors[f"{prefix}.exponent"] if searched else None
    return ActivationQuantizer(spec, tensors[f"{prefix}.scale"], zero_point, exponent)


def is_e4m3_at_run_time(spec: QuantSlot) -> bool:
    """What processors with 8-bit floats round by themselves."""
    return spec.format == FloatFormat("e4m3") and has_run_time_range(spec)


def has_run_time_range(spec: QuantSlot) -> bool:
    return spec.dynamic or isinstance(spec.granularity, PerToken)


def run_time_range(spec: QuantSlot) -> RunTimeRange:
    """Of integers."""
    number, per_token = spec.integer, isinstance(spec.granularity, PerToken)
    return number.qmin, number.qmax, spec.symmetric, per_token, spec.run_time_share


def static_axis(spec: QuantSlot) -> int | None:
    """The axis that has one scale an index; ``None`` for one scale in all."""
    if isinstance(spec.granularity, PerGroup):
        raise ValueError("activations have no group granularity")
    return spec.granularity.axis if isinstance(spec.granularity, PerChannel) else None
