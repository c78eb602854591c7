"""How the codes of one layer are chosen: the solvers of a tuning on the layer's samples."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

import torch
from torch import Tensor

from qcompile.compat.heap import give_back_freed
from qcompile.methods.tuning import Target, Tuning
from qcompile.passes.held_out import ONE_BATCH, split
from qcompile.policy.scheme import QuantSlot
from qcompile.quant.elimination import NotPositiveDefiniteError
from qcompile.quant.geometry import Geometry, are_rows
from qcompile.quant.grouping import Grouping, grouping
from qcompile.quant.layer import Layer, LayerGrid
from qcompile.quant.layer_solver import LayerFit, fit_layer
from qcompile.quant.level_grid import LevelGrid, in_order
from qcompile.quant.moments import (
    FromInputs,
    Moments,
    UnusableSamplesError,
    is_wide,
    moments,
    tells_by_inputs,
)
from qcompile.quant.rounding import nearest

Samples = Callable[[int], tuple[Tensor, Tensor]]


@dataclass(frozen=True, slots=True, eq=False)
class LayerProblem:
    """One weight to be put on a grid, and what a solver may look at."""

    weight: Tensor
    """As the model holds it."""
    spec: QuantSlot
    output_axis: int
    grid: LayerGrid
    """From the range search on ``weight``."""
    samples: Samples | None
    """By batch: the layer's input behind the quantized prefix with the layer's own activation
    quantizer on, and the output that is wanted of it, without the bias. ``None`` where
    the layer is no product of rows and a weight."""
    batches: int
    tuning: Tuning
    judging: int | None = None
    """Batches that judge, see ``held_out``."""
    geometry: Geometry | None = None
    """``None``: the inputs are no rows of a matrix product."""
    refits_bias: bool = False
    plain_input: Callable[[int], Tensor] | None = None
    """By batch: inputs of which the weight makes the wanted output, where it is that alone."""
    importance: Tensor | None = None
    """Of each output, where an error on one weighs more than on another; ``[out]``."""
    row_weights: Sequence[Tensor] | None = None
    """By batch ``[1, rows]``, where an error of one sample weighs more than of another."""

    @property
    def grouping(self) -> Grouping:
        return grouping(self.spec.granularity, tuple(self.weight.shape), self.output_axis)


@dataclass(frozen=True, slots=True, eq=False)
class LayerSolution:
    """Codes ``[outer, groups, size]`` and the grid that they are on."""

    codes: Tensor
    grid: LayerGrid
    bias: Tensor | None = None
    """What is added to the layer's bias, ``[out]``."""
    fallback: str | None = None
    """Why the solvers had to leave nearest rounding, for the report."""
    damping: float | None = None
    """That was used; ``None`` where nothing was fitted."""
    target: Target | None = None
    """The same."""
    blend: float | None = None
    """How much of the way to another target than ``symmetric``, from the layer's own output."""
    note: str = ""
    """What else is to be said of the fit, for the report."""


def round_to_nearest(problem: LayerProblem, fallback: str | None = None) -> LayerSolution:
    """Each weight for itself, on the searched grid."""
    codes = nearest(problem.grouping.view(problem.weight), problem.grid)
    return LayerSolution(codes, problem.grid, fallback=fallback)


def solve(problem: LayerProblem) -> LayerSolution:
    """Run the layer's solvers of the tuning; ``gradient`` works on a block and comes later."""
    tuning = problem.tuning
    if not tuning.solvers:
        raise ValueError(f"the tuning `{tuning.preset}` names no solver")
    if not tuning.uses_moments:
        return round_to_nearest(problem)
    if problem.geometry is None or problem.samples is None:
        return round_to_nearest(problem, "the layer is no matrix product; nearest rounding")
    try:
        return _fitted(problem, problem.geometry, problem.samples)
    except (NotPositiveDefiniteError, UnusableSamplesError):
        return round_to_nearest(problem, "the input statistics are degenerate; nearest rounding")


def _fitted(problem: LayerProblem, geometry: Geometry, samples: Samples) -> LayerSolution:
    layer = Layer(problem.weight, problem.spec, problem.output_axis, geometry)
    groups, rows, k = layer.rows().shape
    if is_wide(k):
        give_back_freed()
    chooses = len(problem.tuning.damping) > 1
    fit, held = (
        split(problem.batches, problem.judging) if chooses else (range(problem.batches), None)
    )
    importance = problem.importance

    def sums(batches: Sequence[int]) -> Moments:
        counts = problem.row_weights
        weights = None if counts is None else [counts[batch] for batch in batches]
        of_inputs = _of_inputs(problem, geometry, layer.rows(), batches)
        return moments(map(samples, batches), geometry, weights, of_inputs)

    fitted, judging = sums(fit), None if held is None else sums(held)
    if is_wide(k) or not are_rows(geometry):
        give_back_freed()
    found = fit_layer(
        layer,
        problem.tuning,
        problem.grid,
        fitted,
        judging,
        refits_bias=problem.refits_bias,
        importance=None
        if importance is None
        else importance.to(problem.weight.device, torch.float64).view(groups, rows),
    )
    target = problem.tuning.target
    return LayerSolution(
        codes=_stored(layer.codes_of(found.codes), found.grid),
        grid=layer.grid_of(found.scale, found.zero_point, found.grid),
        bias=None if found.bias is None else found.bias.flatten(),
        damping=found.damping,
        target=target if found.damping else None,
        blend=found.blend if found.damping and target != "symmetric" else None,
        note="; ".join(_remarks(problem, found)),
    )


def _stored(codes: Tensor, grid: LayerGrid) -> Tensor:
    """Codes as on disk, of the places of levels."""
    return in_order(grid.levels)[1][codes.long()] if isinstance(grid, LevelGrid) else codes


def _of_inputs(
    problem: LayerProblem, geometry: Geometry, weight: Tensor, batches: Sequence[int]
) -> FromInputs | None:
    """Where that is the smaller product, and inputs are rows as they are."""
    plain = problem.plain_input
    pays = tells_by_inputs(*weight.shape)
    if plain is None or not pays or not are_rows(geometry) or problem.weight.dtype != torch.float32:
        return None
    return FromInputs(weight, map(plain, batches))


def _remarks(problem: LayerProblem, found: LayerFit) -> Iterator[str]:
    if len(problem.tuning.damping) > 1 and problem.batches == 1:
        yield ONE_BATCH
    if problem.tuning.weighs_rows and problem.row_weights is None:
        yield "rows count alike: the network's output has no finite derivative by them"
    if found.raised:
        yield f"the inputs are linearly dependent: damping was raised to {found.damping:g}"


def unit_seed(seed: int, unit: str) -> int:
    """A seed that depends on nothing but the run's seed and the unit's name (63 bits)."""
    digest = sha256(f"{seed}\0{unit}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
