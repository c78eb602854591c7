"""Quantize one site: ranges of its operands, codes of its weight, its value behind both."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor, fx

from qcompile.methods.tuning import Tuning
from qcompile.passes.block import BlockSite, SolvedWeight
from qcompile.passes.layer_geometry import layer_geometry
from qcompile.passes.solvers import LayerProblem, solve
from qcompile.passes.sweep_node import attribute, occurrences, operation
from qcompile.passes.sweep_operands import Operand, operands
from qcompile.passes.sweep_streams import Streams
from qcompile.passes.sweep_values import Value, relative_error
from qcompile.policy.core import SitePlan, TensorPlan
from qcompile.quant.activation_quantizer import ActivationQuantizer, fit
from qcompile.quant.quantized_weight import QuantizedWeight, encode, quantize_weight
from qcompile.quant.range_search import weight_range


@dataclass(frozen=True, slots=True)
class SiteFigures:
    """Errors are relative and squared: ``sum |q - f|^2 / sum |f|^2``; ``None`` where undefined."""

    key: str
    weight_error: float | None = None
    output_error: float | None = None
    reused_codes: bool = False
    """The weight was quantized at an earlier site: a further call, or a tied weight."""
    fallback: str | None = None
    """Why a solver left the codes of the one before."""


@dataclass(frozen=True, slots=True, eq=False)
class SiteResult:
    values: list[Value]
    """Of the node, behind quantization."""
    site: BlockSite
    """With the weight that was newly quantized here, if any."""
    figures: SiteFigures


@dataclass(frozen=True, slots=True, eq=False)
class SiteContext:
    """What a site's quantization may look at."""

    module: fx.GraphModule
    device: torch.device
    streams: Streams
    batches: int
    tuning: Tuning
    generator: torch.Generator


def quantize_site(
    context: SiteContext, node: fx.Node, site: SitePlan, known: Mapping[str, QuantizedWeight]
) -> SiteResult:
    """Quantize operands, then the weight, then evaluate; ``known`` weights are by storage."""
    streams = context.streams
    quantized = operands(node, site)
    quantizers = _fit_operands(streams, quantized)
    slots = {place: item.slot for item in quantized for place in item.positions}
    at = {place: quantizers[slot] for place, slot in slots.items()}
    plan = next((tensor for tensor in site.tensors if tensor.slot == "weight"), None)
    weights: dict[str, Tensor] = {}
    solved: SolvedWeight | None = None
    figures = SiteFigures(site.key)
    if plan is not None:
        path, storage = weight_names(plan)
        weight = cast("Tensor", attribute(context.module, path)).detach().to(context.device)
        code, fallback = known.get(storage), None
        if code is None:
            solved, fallback = _solve_weight(context, node, plan, weight, at)
            code = solved.start
        weights[path] = code.dequantize(weight.dtype)
        error = relative_error([weights[path]], [weight])
        figures = SiteFigures(site.key, error, None, solved is None, fallback)
    run = operation(context.module, node, context.device, weights)
    values = [run(partial(_operand, streams, at, batch)) for batch in range(context.batches)]
    reused: dict[str, tuple[str, Tensor]] = {}
    if plan is not None and solved is None:
        path, storage = weight_names(plan)
        reused[path] = (storage, weights[path])
    parts = BlockSite(site.key, node.name, slots, quantizers, solved, reused)
    return SiteResult(values, parts, figures)


def weight_names(plan: TensorPlan) -> tuple[str, str]:
    """Path of the planned parameter, and of the first parameter of its storage."""
    if plan.parameter is None:
        raise ValueError("a weight plan names no parameter")
    return plan.parameter, plan.storage or plan.parameter


def _fit_operands(
    streams: Streams, quantized: tuple[Operand, ...]
) -> dict[str, ActivationQuantizer]:
    """By slot name; ranges are of the quantized stream, which is what the site will see.

    Operands that share a range have one quantizer, fitted to the values of all of them.
    """
    groups: dict[object, list[Operand]] = {}
    for operand in quantized:
        groups.setdefault(operand.plan.shared_by or operand.slot, []).append(operand)
    found: dict[str, ActivationQuantizer] = {}
    for group in groups.values():
        values = [value for one in group for value in streams.quantized_values(one.node)]
        quantizer = fit([cast("Tensor", value) for value in values], group[0].plan.spec)
        found |= {one.slot: quantizer for one in group}
    return found


def _operand(
    streams: Streams,
    quantizers: Mapping[int, ActivationQuantizer],
    batch: int,
    position: int,
    used: fx.Node,
) -> Value:
    value = streams.quantized_values(used.name)[batch]
    quantizer = quantizers.get(position)
    return value if quantizer is None else quantizer(cast("Tensor", value))


def _solve_weight(
    context: SiteContext,
    node: fx.Node,
    plan: TensorPlan,
    weight: Tensor,
    quantizers: Mapping[int, ActivationQuantizer],
) -> tuple[SolvedWeight, str | None]:
    grid = weight_range(weight, plan.spec, plan.output_axis)
    problem = LayerProblem(
        weight=weight,
        spec=plan.spec,
        output_axis=plan.output_axis,
        grid=grid,
        inputs=partial(_layer_inputs, context, node, quantizers),
        tuning=context.tuning,
        generator=context.generator,
        geometry=layer_geometry(context.module, node, plan.output_axis),
    )
    solution = solve(problem)
    path, storage = weight_names(plan)
    solved = SolvedWeight(
        path=path,
        storage=storage,
        plan=plan,
        weight=weight,
        nearest=quantize_weight(weight, plan.spec, plan.output_axis, grid),
        start=encode(
            solution.codes, solution.grid, plan.spec, tuple(weight.shape), plan.output_axis
        ),
    )
    return solved, solution.fallback


def _layer_inputs(
    context: SiteContext, node: fx.Node, quantizers: Mapping[int, ActivationQuantizer]
) -> Iterator[tuple[Tensor, Tensor]]:
    """The first operand that is no parameter, float and quantized, batch by batch."""
    used = enumerate(occurrences(node))
    position, first = next((i, node) for i, node in used if node.op != "get_attr")
    for batch in range(context.batches):
        plain = context.streams.float_values(first.name)[batch]
        quantized = _operand(context.streams, quantizers, batch, position, first)
        yield cast("Tensor", plain), cast("Tensor", quantized)
