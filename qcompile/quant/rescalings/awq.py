"""AWQ (arXiv 2306.00978): channels that meet large activations get finer steps.

The exponent is searched for each value on its own, by the error of the layers that read it; the
reference code looks at the output of the module around them.
"""

from dataclasses import replace

import torch
from torch import Tensor

from qcompile.policy.scheme import MinMax, QuantSlot
from qcompile.quant.grouping import grouping
from qcompile.quant.range_search import weight_range
from qcompile.quant.rescalings.channels import Rescaled, Situation, Weight, unscaled

SMALLEST = 1e-4


def awq(seen: Situation, grid: int) -> Rescaled:
    """``s = mean|X|^a`` with the best of ``grid`` exponents from 0 on; 0 leaves all as it is."""
    best, least = unscaled(seen.channels.mean), _error(seen, torch.ones_like(seen.channels.mean))
    for step in range(1, grid):
        scale = (seen.channels.mean ** (step / grid)).clamp(min=SMALLEST)
        scale = scale / (scale.max() * scale.min()).sqrt()
        error = _error(seen, scale)
        if error < least:
            best, least = Rescaled(scale), error
    return best


def _error(seen: Situation, scale: Tensor) -> float:
    """Squared error of the readers' outputs, their weights rounded to nearest."""
    rows = seen.channels.rows.double()
    return sum(_error_of(reader, rows, scale) for reader in seen.readers)


def _error_of(reader: Weight, rows: Tensor, scale: Tensor) -> float:
    if reader.spec is None:
        return 0.0
    scaled = reader.scaled(scale)
    off = _rounded(scaled.float(), reader.spec, reader.output_axis) - scaled
    off = off if reader.axis == 1 else off.T  # [out, c]
    return float(((rows / scale) @ off.T).square().sum())


def _rounded(weight: Tensor, spec: QuantSlot, output_axis: int) -> Tensor:
    found = weight_range(weight, replace(spec, observer=MinMax()), output_axis)
    view = grouping(spec.granularity, tuple(weight.shape), output_axis)
    return view.restore(found.fake_quantize(view.view(weight))).double()
