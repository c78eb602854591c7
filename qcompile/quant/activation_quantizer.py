"""What stands on an edge of the graph whose value is quantized."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from qcompile.policy.number_format import IntFormat
from qcompile.policy.scheme import PerChannel, PerGroup, PerToken, QuantSlot
from qcompile.quant.fake_quantize import (
    fake_quantize,
    fake_quantize_dynamic,
    fake_quantize_e4m3,
    stored_zero_point,
)
from qcompile.quant.range_search import activation_range
from qcompile.quant.sampling import sample


@dataclass(frozen=True, slots=True, eq=False)
class ActivationQuantizer:
    """A slot with its range: ``scale`` is ``None`` where each input brings its own.

    ``zero_point`` is ``None`` for a symmetric or a run-time range. Of other formats than integers
    there is ``fp8_e4m3`` alone, with a run-time range.
    """

    spec: QuantSlot
    scale: Tensor | None = None
    zero_point: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        per_token = isinstance(self.spec.granularity, PerToken)
        if not isinstance(self.spec.format, IntFormat):
            return fake_quantize_e4m3(x, per_token)
        number = self.spec.integer
        if self.scale is None:
            symmetric = self.spec.symmetric
            return fake_quantize_dynamic(x, number.qmin, number.qmax, symmetric, per_token)
        axis = static_axis(self.spec)
        return fake_quantize(x, self.scale, self.zero_point, number.qmin, number.qmax, axis)

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """Artifact tensors; ``prefix`` is ``<site key>:<slot>``."""
        if self.scale is None:
            return {}
        found = {f"{prefix}.scale": self.scale}
        if self.zero_point is not None:
            found[f"{prefix}.zero_point"] = self.zero_point
        return found


def fit(batches: Sequence[Tensor], spec: QuantSlot) -> ActivationQuantizer:
    """The quantizer of a value, its range taken over all calibration batches."""
    if has_run_time_range(spec):
        return ActivationQuantizer(spec)
    grid = activation_range(sample(batches, static_axis(spec)), spec)
    zero_point = None if spec.symmetric else stored_zero_point(grid)
    return ActivationQuantizer(spec, grid.scale, zero_point)


def from_tensors(
    tensors: Mapping[str, Tensor], prefix: str, spec: QuantSlot
) -> ActivationQuantizer:
    """The inverse of ``ActivationQuantizer.tensors``."""
    if has_run_time_range(spec):
        return ActivationQuantizer(spec)
    zero_point = None if spec.symmetric else tensors[f"{prefix}.zero_point"]
    return ActivationQuantizer(spec, tensors[f"{prefix}.scale"], zero_point)


def has_run_time_range(spec: QuantSlot) -> bool:
    return spec.dynamic or isinstance(spec.granularity, PerToken)


def static_axis(spec: QuantSlot) -> int | None:
    """The axis that has one scale an index; ``None`` for one scale in all."""
    if isinstance(spec.granularity, PerGroup):
        raise ValueError("activations have no group granularity")
    return spec.granularity.axis if isinstance(spec.granularity, PerChannel) else None
