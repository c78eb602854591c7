"""Quantizers of a site's operands, from what arrives there behind the quantized prefix."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, fx

from qcompile.passes.layer_form import LayerForm, layer_form
from qcompile.passes.residual import residual
from qcompile.passes.site_context import SiteContext
from qcompile.passes.sweep_node import attribute
from qcompile.passes.sweep_operands import Operand
from qcompile.passes.sweep_streams import Streams
from qcompile.policy.core import SitePlan
from qcompile.policy.number_format import IntFormat
from qcompile.policy.scheme import Mse, PerTensor
from qcompile.quant.activation_quantizer import ActivationQuantizer, fit, has_run_time_range
from qcompile.quant.fake_quantize import stored_grid, stored_zero_point
from qcompile.quant.geometry import Convolution, Geometry, rows, weight_rows
from qcompile.quant.output_range import ROWS, layer_input, output_range

IMAGES = 4
"""Of a batch, from which a convolution's rows are drawn."""
WIDEST = 4
"""One row in so many is drawn for its largest number."""
GOLDEN = (5**0.5 - 1) / 2
"""Its multiples, modulo 1, are spread evenly and meet no period."""


def fit_operands(
    context: SiteContext, node: fx.Node, site: SitePlan, quantized: tuple[Operand, ...]
) -> dict[str, ActivationQuantizer]:
    """By slot name; ranges are of the quantized stream, which is what the site will see.

    Operands that share a range have one quantizer, fitted to the values of all of them.
    """
    groups: dict[object, list[Operand]] = {}
    for operand in quantized:
        groups.setdefault(operand.plan.shared_by or operand.slot, []).append(operand)
    found: dict[str, ActivationQuantizer] = {}
    for group in groups.values():
        values = [value for one in group for value in _values(context.streams, one.node)]
        quantizer = fit(values, group[0].plan.spec, group[0].plan.block_axis)
        if len(group) == 1:
            quantizer = _of_output(context, node, site, group[0], quantizer)
        found |= {one.slot: quantizer for one in group}
    return found


def _of_output(
    context: SiteContext,
    node: fx.Node,
    site: SitePlan,
    operand: Operand,
    quantizer: ActivationQuantizer,
) -> ActivationQuantizer:
    """With the range that suits the layer's output, where the tuning learns it layer by layer.

    A range that other sites share, or that a recipe asks for by name, stays.
    """
    tuning, spec = context.tuning, operand.plan.spec
    asked = tuning.uses_moments and "act_scale" in tuning.learn
    is_one = isinstance(spec.granularity, PerTensor) and not has_run_time_range(spec)
    is_one &= isinstance(spec.format, IntFormat)
    weight = next((tensor for tensor in site.tensors if tensor.slot == "weight"), None)
    form = layer_form(context.module, node) if asked and is_one else None
    is_free = operand.plan.shared_by is None and isinstance(spec.observer, Mse)
    if form is None or weight is None or weight.parameter is None or not is_free:
        return quantizer
    if form.input not in operand.positions:
        return quantizer
    batches = _values(context.streams, operand.node)[: context.fitted]
    held = cast("Tensor", attribute(context.module, weight.parameter)).detach()
    matrix = weight_rows(held.to(context.device), form.geometry)
    drawn, weights = _sample(batches, form.geometry, context.row_weights.get(node.name))
    gain = _gain(context, node, form, matrix)
    sample = layer_input(drawn, matrix, gain, centred=bool(site.refits), weights=weights)
    ends = [torch.stack(batch.aminmax()).float() for batch in batches]
    low, high = torch.stack(ends).amin(0)[:1], torch.stack(ends).amax(0)[1:]
    number = spec.integer
    start = stored_grid(
        cast("Tensor", quantizer.scale), quantizer.zero_point, number.qmin, number.qmax, (1,)
    )
    grid = output_range(sample, start, low, high, spec)
    return ActivationQuantizer(
        spec, grid.scale, None if spec.symmetric else stored_zero_point(grid)
    )


def _values(streams: Streams, node: str) -> list[Tensor]:
    return [cast("Tensor", value) for value in streams.quantized_values(node)]


def _sample(
    batches: Sequence[Tensor], geometry: Geometry, counts: Sequence[Tensor] | None
) -> tuple[Tensor, Tensor]:
    """``[groups, n, k]`` of all batches, and how much each row stands for, ``[1, n]``."""
    taken = range(0, len(batches), -(-len(batches) * WIDEST // ROWS))
    wanted = -(-ROWS // len(taken))
    found: list[Tensor] = []
    weights: list[Tensor] = []
    for turn, number in enumerate(taken):
        batch = batches[number]
        few = batch[:IMAGES] if isinstance(geometry, Convolution) else batch
        own = rows(few, geometry).float()
        place, weight = drawn_rows(own, wanted, turn)
        found.append(own[:, place])
        weights.append(weight if counts is None else weight * counts[number][0, place])
    return torch.cat(found, 1), torch.cat(weights)[None]


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


def _gain(context: SiteContext, node: fx.Node, form: LayerForm, matrix: Tensor) -> Tensor | None:
    """``[groups, m]``: how much of each output reaches the sum behind the layer."""
    groups, outputs, _ = matrix.shape
    found = residual(context.module, node, form, groups * outputs, lambda _: True)
    if found is None or found.gain is None:
        return None
    return found.gain.to(matrix.device).view(groups, outputs)
