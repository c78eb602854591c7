"""Quantizers of a site's operands, from what arrives there behind the quantized prefix."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf, prod
from types import MappingProxyType
from typing import cast

import torch
from torch import Tensor, fx

from qcompile.passes.held_out import split
from qcompile.passes.layer_samples import LayerSamples, layer_samples
from qcompile.passes.site_context import SiteContext
from qcompile.passes.sweep_node import attribute
from qcompile.passes.sweep_operands import Operand
from qcompile.passes.sweep_streams import Streams
from qcompile.passes.sweep_values import Value
from qcompile.policy.core import SitePlan
from qcompile.policy.scheme import has_range_to_choose
from qcompile.quant.activation_quantizer import ActivationQuantizer, fit
from qcompile.quant.fake_quantize import stored_grid
from qcompile.quant.geometry import Convolution, output_rows, rows, weight_rows
from qcompile.quant.output_range import (
    FEWEST,
    Drawn,
    Fit,
    OutputError,
    output_range,
    rows_looked_at,
)

NOT_QUANTIZED: Mapping[int, ActivationQuantizer] = MappingProxyType({})
OVERDRAWN = 4
"""Rows of a batch for each that is drawn: of a convolution's, patches of few images are enough."""
WIDEST = 4
"""One row in so many is drawn for its largest number."""
GOLDEN = (5**0.5 - 1) / 2
"""Its multiples, modulo 1, are spread evenly and meet no period."""


def fit_operands(
    context: SiteContext,
    node: fx.Node,
    site: SitePlan,
    quantized: tuple[Operand, ...],
    plain: Sequence[Value] = (),
) -> dict[str, ActivationQuantizer]:
    """By slot name; ranges are of the quantized stream, which is what the site will see.

    Operands that share a range have one quantizer, fitted to the values of all of them. ``plain``
    are the node's float outputs, if its weight is still to be fitted to them.
    """
    groups: dict[object, list[Operand]] = {}
    for operand in quantized:
        groups.setdefault(operand.plan.shared_by or operand.slot, []).append(operand)
    found: dict[str, ActivationQuantizer] = {}
    for group in groups.values():
        values = [value for one in group for value in _values(context.streams, one.node)]
        quantizer = fit(values, group[0].plan.spec, group[0].plan.block_axis)
        if len(group) == 1:
            quantizer = _of_output(context, node, site, group[0], quantizer, plain)
        found |= {one.slot: quantizer for one in group}
    return found


def _of_output(
    context: SiteContext,
    node: fx.Node,
    site: SitePlan,
    operand: Operand,
    quantizer: ActivationQuantizer,
    plain: Sequence[Value],
) -> ActivationQuantizer:
    """With the range that suits the layer's output, where the tuning learns it layer by layer.

    A range that other sites share stays.
    """
    spec, asked = operand.plan.spec, context.tuning.chooses_ranges
    if not asked or operand.plan.shared_by is not None or not has_range_to_choose(spec):
        return quantizer
    plan = next((tensor for tensor in site.tensors if tensor.slot == "weight"), None)
    if plan is None or plan.parameter is None:
        return quantizer
    held = cast("Tensor", attribute(context.module, plan.parameter)).detach()
    samples = layer_samples(context, node, held.shape[plan.output_axis], NOT_QUANTIZED, plain)
    if samples is None or samples.form.input not in operand.positions:
        return quantizer
    number = spec.integer
    start = stored_grid(
        cast("Tensor", quantizer.scale), quantizer.zero_point, number.qmin, number.qmax, (1,)
    )
    error = _output_error(context, node, site, samples, held.to(context.device))
    return (
        quantizer if error is None else replace(quantizer, scale=output_range(error, start).scale)
    )


def _output_error(
    context: SiteContext, node: fx.Node, site: SitePlan, samples: LayerSamples, weight: Tensor
) -> OutputError | None:
    """``None`` where there is too little that judges, or one batch, which would judge itself."""
    tuning = context.tuning
    matrix = weight_rows(weight, samples.form.geometry).float()
    groups, outputs, k = matrix.shape
    fitted, judging = split(context.fitted, context.judging)
    if fitted == judging:
        return None
    counts = context.row_weights.get(node.name)
    of_fit, of_held = rows_looked_at(groups, k)
    held = _drawn(samples, judging, of_held, counts)
    if held.inputs.shape[1] < FEWEST:
        return None
    importance = samples.importance
    gain = None if importance is None else importance.sqrt().to(matrix).view(groups, outputs)
    if tuning.target == "symmetric":
        own = replace(held, wanted=held.inputs @ matrix.transpose(1, 2))
        return OutputError(matrix, own, gain)
    rows_ = _drawn(samples, fitted, of_fit, counts)
    fit_ = Fit(rows_, centred=bool(site.refits), damping=min(tuning.damping))
    return OutputError(matrix, held, gain, fit_)


def _values(streams: Streams, node: str) -> list[Tensor]:
    return [cast("Tensor", value) for value in streams.quantized_values(node)]


def _drawn(
    samples: LayerSamples, batches: Sequence[int], count: int, counts: Sequence[Tensor] | None
) -> Drawn:
    """``count`` rows of the batches, the same number of each."""
    geometry = samples.form.geometry
    taken = batches[:: max(len(batches) * WIDEST // count, 1)]
    wanted = -(-count // len(taken))
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []
    weights: list[Tensor] = []
    for turn, number in enumerate(taken):
        x, y = samples(number)
        if isinstance(geometry, Convolution):
            images = -(-OVERDRAWN * wanted // max(prod(y.shape[2:]), 1))
            x, y = x[:images], y[:images]
        own = rows(x, geometry).float()
        place, weight = drawn_rows(own, wanted, turn)
        inputs.append(own[:, place])
        outputs.append(output_rows(y, geometry).float()[:, place])
        weights.append(weight if counts is None else weight * counts[number][0, place])
    return Drawn(torch.cat(inputs, 1), torch.cat(outputs, 1), torch.cat(weights)[None])


def drawn_rows(own: Tensor, wanted: int, turn: int) -> tuple[Tensor, Tensor]:
    """Numbers of rows, and how many each stands for: the widest for themselves, others evenly.

    A few rows hold numbers far beyond all others, and decide what cutting a range costs. ``turn``
    counts the draws, so that no two of them meet the same rows of a batch.
    """
    count = own.shape[1]
    if count <= wanted:
        return torch.arange(count, device=own.device), torch.ones(count, device=own.device)
    largest = torch.linalg.vector_norm(own, inf, dim=(0, 2))
    order = largest.argsort(descending=True, stable=True)
    widest, others = order[: wanted // WIDEST], order[wanted // WIDEST :].sort().values
    size = wanted - len(widest)
    # no stride: rows of an image or a text recur
    steps = torch.arange(turn * size, (turn + 1) * size, device=own.device, dtype=torch.float64)
    place = others[(steps * GOLDEN % 1 * len(others)).long()]
    weight = torch.ones(wanted, device=own.device)
    weight[len(widest) :] = len(others) / size
    return torch.cat([widest, place]), weight
