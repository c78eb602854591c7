"""Quantizers of a site's operands, from what arrives there behind the quantized prefix."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from types import MappingProxyType
from typing import cast

import torch
from torch import Tensor, fx

from qcompile.passes.held_out import split
from qcompile.passes.layer_samples import LayerSamples, layer_samples
from qcompile.passes.site_context import SiteContext
from qcompile.passes.sweep_node import attribute
from qcompile.passes.sweep_operands import Operand
from qcompile.passes.sweep_values import Value
from qcompile.policy.core import SitePlan
from qcompile.policy.scheme import PerChannel, has_range_to_choose
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
KEPT = "its input keeps the observed range"
OVERDRAWN = 4
"""Rows of a batch for each that is drawn: of a convolution's, patches of few images are enough."""
WIDEST = 4
"""One row in so many is drawn for its largest number."""
GOLDEN = (5**0.5 - 1) / 2
"""Its multiples, modulo 1, are spread evenly and meet no period."""


@dataclass(frozen=True, slots=True)
class FittedOperands:
    quantizers: Mapping[str, ActivationQuantizer]
    """By slot name."""
    note: str = ""
    """For the report: why a range that was to be chosen is as it was observed."""


def fit_operands(
    context: SiteContext,
    node: fx.Node,
    site: SitePlan,
    quantized: tuple[Operand, ...],
    plain: Sequence[Value] = (),
) -> FittedOperands:
    """Ranges are of the quantized stream, which is what the site will see.

    Operands that share a range have one quantizer, fitted to the values of all of them. ``plain``
    are the node's float outputs, if its weight is still to be fitted to them. The range of the
    layer's input is then the one that suits its output, where the tuning learns that layer by
    layer; one that is shared stays.
    """
    groups: dict[object, list[Operand]] = {}
    for operand in quantized:
        groups.setdefault(operand.plan.shared_by or operand.slot, []).append(operand)
    found: dict[str, ActivationQuantizer] = {}
    note = ""
    for group in groups.values():
        channels = group[0].plan.spec.granularity
        axis = channels.axis if isinstance(channels, PerChannel) else None
        values = [value for one in group for value in _values(context, one.node, axis)]
        quantizer = fit(values, group[0].plan.spec, group[0].plan.block_axis)
        error = _output_error(context, node, site, group[0], plain)
        if isinstance(error, OutputError):
            quantizer = _of_output(quantizer, error)
        note = error if isinstance(error, str) else note
        found |= {one.slot: quantizer for one in group}
    return FittedOperands(found, note)


def _of_output(quantizer: ActivationQuantizer, error: OutputError) -> ActivationQuantizer:
    number = quantizer.spec.integer
    start = stored_grid(
        cast("Tensor", quantizer.scale), quantizer.zero_point, number.qmin, number.qmax, (1,)
    )
    return replace(quantizer, scale=output_range(error, start).scale)


def _output_error(
    context: SiteContext, node: fx.Node, site: SitePlan, operand: Operand, plain: Sequence[Value]
) -> OutputError | str | None:
    """By which a range is chosen; ``None`` where it is not, and why, where it cannot be."""
    tuning = context.tuning
    is_free = operand.plan.shared_by is None and has_range_to_choose(operand.plan.spec)
    plan = next((tensor for tensor in site.tensors if tensor.slot == "weight"), None)
    if not (tuning.chooses_ranges and is_free) or plan is None or plan.parameter is None:
        return None
    weight = cast("Tensor", attribute(context.module, plan.parameter)).detach().to(context.device)
    samples = layer_samples(context, node, weight.shape[plan.output_axis], NOT_QUANTIZED, plain)
    if samples is None or samples.form.input not in operand.positions:
        return None
    matrix = weight_rows(weight, samples.form.geometry).float()
    groups, outputs, k = matrix.shape
    fitted, judging = split(context.fitted, context.judging)
    if fitted == judging:
        return f"{KEPT}: there is one batch"
    counts = context.row_weights.get(node.name)
    of_fit, of_held = rows_looked_at(groups, k)
    held = _drawn(samples, judging, of_held, counts)
    if held.inputs.shape[1] < FEWEST:
        return f"{KEPT}: {held.inputs.shape[1]} rows would judge, fewer than {FEWEST}"
    importance = samples.importance
    gain = None if importance is None else importance.sqrt().to(matrix).view(groups, outputs)
    if tuning.target == "symmetric":
        own = replace(held, wanted=held.inputs @ matrix.transpose(1, 2))
        return OutputError(matrix, own, gain)
    few = _drawn(samples, fitted, of_fit, counts)
    way = Fit(few, centred=bool(site.refits), damping=min(tuning.damping))
    return OutputError(matrix, held, gain, way)


def _values(context: SiteContext, name: str, axis: int | None) -> list[Tensor]:
    """Without padding; ``axis`` is that of the channels, if each has a range of its own."""
    padding = context.padding
    values = [cast("Tensor", value) for value in context.streams.quantized_values(name)]
    by_position = bool(values) and padding.shares(axis, values[0], name)
    own = padding.silenced if by_position else padding.kept
    return [own(value, name, batch) for batch, value in enumerate(values)]


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
    order = own.abs().amax((0, 2)).argsort(descending=True, stable=True)
    widest, others = order[: wanted // WIDEST], order[wanted // WIDEST :].sort().values
    size = wanted - len(widest)
    # no stride: rows of an image or a text recur
    steps = torch.arange(turn * size, (turn + 1) * size, device=own.device, dtype=torch.float64)
    place = others[(steps * GOLDEN % 1 * len(others)).long()]
    weight = torch.ones(wanted, device=own.device)
    weight[len(widest) :] = len(others) / size
    return torch.cat([widest, place]), weight
