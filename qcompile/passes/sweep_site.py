"""Quantize one site: ranges of its operands, codes of its weight, its value behind both."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

from torch import Tensor, fx

from qcompile.methods.tuning import Target
from qcompile.passes.block import BlockSite, Rounded, SolvedWeight
from qcompile.passes.layer_samples import LayerSamples, layer_samples
from qcompile.passes.operand_range import fit_operands
from qcompile.passes.site_context import SiteContext, quantized_operand
from qcompile.passes.solvers import LayerProblem, LayerSolution, solve
from qcompile.passes.sweep_node import attribute, operation
from qcompile.passes.sweep_operands import operands
from qcompile.passes.sweep_values import Value, relative_error
from qcompile.policy.core import SitePlan, TensorPlan
from qcompile.policy.number_format import IntFormat
from qcompile.quant.grid import Grid
from qcompile.quant.level_weight import LevelWeight, quantize_levels
from qcompile.quant.quantized_weight import encode, quantize_weight
from qcompile.quant.range_search import weight_range
from qcompile.quant.stored_weight import StoredWeight


@dataclass(frozen=True, slots=True)
class SiteFigures:
    """Errors are relative and squared: ``sum |q - f|^2 / sum |f|^2``; ``None`` where undefined."""

    key: str
    weight_error: float | None = None
    output_error: float | None = None
    reused_codes: bool = False
    """The weight was quantized at an earlier site: a further call, or a tied weight."""
    fallback: str | None = None
    """Why the layer's solvers left nearest rounding."""
    damping: float | None = None
    """With which the layer's solvers fitted; 0 where nearest rounding was better."""
    target: Target | None = None
    """What they fitted."""
    blend: float | None = None
    """How much of the way there from the layer's own output; ``None`` if that is the target."""
    note: str = ""
    """What else is to be said of the layer's fit."""


@dataclass(frozen=True, slots=True, eq=False)
class SiteResult:
    value: Callable[[int], Value]
    """Of the node, behind quantization, for a batch; reads the streams when it is called."""
    site: BlockSite
    """With the weight that was newly quantized here, if any."""
    figures: SiteFigures


def quantize_site(
    context: SiteContext,
    node: fx.Node,
    site: SitePlan,
    known: Mapping[str, StoredWeight],
    plain: Sequence[Value] = (),
) -> SiteResult:
    """Quantize operands, then the weight; ``known`` weights are by storage.

    ``plain`` are the node's float outputs, where the tuning's solvers fit them.
    """
    plan = next((tensor for tensor in site.tensors if tensor.slot == "weight"), None)
    code = None if plan is None else known.get(weight_names(plan)[1])
    quantized = operands(node, site)
    fitted = fit_operands(context, node, site, quantized, plain if code is None else ())
    quantizers = fitted.quantizers
    slots = {place: item.slot for item in quantized for place in item.positions}
    at = {place: quantizers[slot] for place, slot in slots.items()}
    weights: dict[str, Tensor] = {}
    solved: SolvedWeight | None = None
    figures = SiteFigures(site.key)
    if plan is not None:
        path, storage = weight_names(plan)
        weight = cast("Tensor", attribute(context.module, path)).detach().to(context.device)
        solution = None
        if code is None:
            samples = layer_samples(context, node, weight.shape[plan.output_axis], at, plain)
            solved, solution = _solve_weight(context, node, site, plan, weight, samples)
            code = solved.start.code
            weights |= solved.start.beside
        weights[path] = code.dequantize(weight.dtype)
        error = relative_error([weights[path]], [weight])
        figures = SiteFigures(site.key, error, reused_codes=solved is None)
        if solution is not None:
            figures = replace(
                figures,
                fallback=solution.fallback,
                damping=solution.damping,
                blend=solution.blend,
                target=solution.target,
                note="; ".join(filter(None, (solution.note, fitted.note))),
            )
    run = operation(context.module, node, context.device, weights)

    def value(batch: int) -> Value:
        return run(partial(quantized_operand, context.streams, at, batch))

    reused: dict[str, tuple[str, Tensor]] = {}
    if plan is not None and solved is None:
        path, storage = weight_names(plan)
        reused[path] = (storage, weights[path])
    parts = BlockSite(site.key, node.name, slots, quantizers, solved, reused)
    return SiteResult(value, parts, figures)


def weight_names(plan: TensorPlan) -> tuple[str, str]:
    """Path of the planned parameter, and of the first parameter of its storage."""
    if plan.parameter is None:
        raise ValueError("a weight plan names no parameter")
    return plan.parameter, plan.storage or plan.parameter


def _solve_weight(
    context: SiteContext,
    node: fx.Node,
    site: SitePlan,
    plan: TensorPlan,
    weight: Tensor,
    samples: LayerSamples | None,
) -> tuple[SolvedWeight, LayerSolution | None]:
    path, storage = weight_names(plan)
    unmoved = {path: _moved(context, path, None) for path in site.refits}
    shape = tuple(weight.shape)
    nearest: StoredWeight
    if isinstance(plan.spec.format, IntFormat):
        grid = weight_range(weight, plan.spec, plan.output_axis)
        nearest = quantize_weight(weight, plan.spec, plan.output_axis, grid)
    else:
        nearest = quantize_levels(weight, plan.spec, plan.output_axis)
        if not context.tuning.uses_moments:
            levels = Rounded(nearest, unmoved)
            return SolvedWeight(path, storage, plan, weight, nearest=levels, start=levels), None
        grid = nearest.grid
    problem = LayerProblem(
        weight=weight,
        spec=plan.spec,
        output_axis=plan.output_axis,
        grid=grid,
        samples=samples,
        batches=context.fitted,
        judging=context.judging,
        tuning=context.tuning,
        geometry=None if samples is None else samples.form.geometry,
        refits_bias=bool(site.refits),
        plain_input=None if samples is None else samples.plain_input,
        importance=None if samples is None else samples.importance,
        row_weights=context.row_weights.get(node.name),
    )
    solution = solve(problem)
    code = (
        nearest.with_codes(solution.codes, solution.grid.scale)
        if isinstance(nearest, LevelWeight)
        else encode(solution.codes, cast("Grid", solution.grid), plan.spec, shape, plan.output_axis)
    )
    beside = {path: _moved(context, path, solution.bias) for path in site.refits}
    solved = SolvedWeight(
        path=path,
        storage=storage,
        plan=plan,
        weight=weight,
        nearest=Rounded(nearest, unmoved),
        start=Rounded(code, beside),
    )
    return solved, solution


def _moved(context: SiteContext, path: str, change: Tensor | None) -> Tensor:
    """The parameter ``path`` with ``change`` added, in its own type; without, a copy."""
    own = cast("Tensor", attribute(context.module, path)).detach().to(context.device)
    return own.clone() if change is None else (own.double() + change).to(own.dtype)
