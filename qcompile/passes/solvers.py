"""How the codes of one layer are chosen: the solvers of a tuning, run in order."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256

import torch
from torch import Tensor

from qcompile.methods.tuning import Solver, Tuning
from qcompile.policy.scheme import QuantSlot
from qcompile.quant.gram import Geometry, gram, weight_of_rows, weight_rows
from qcompile.quant.grid import Grid
from qcompile.quant.grouping import Grouping, grouping
from qcompile.quant.optq import NotPositiveDefiniteError, optq
from qcompile.quant.quadratic import Quadratic
from qcompile.quant.rounding import nearest


@dataclass(frozen=True, slots=True, eq=False)
class LayerProblem:
    """One weight to be put on a grid, and what a solver may look at."""

    weight: Tensor
    """As the model holds it."""
    spec: QuantSlot
    output_axis: int
    grid: Grid
    """From the range search on ``weight``; parameters ``[outer, groups, 1]`` (see ``Grouping``)."""
    inputs: Callable[[], Iterator[tuple[Tensor, Tensor]]]
    """The layer's input, batch by batch: in the float model, and behind the quantized prefix with
    the layer's own activation quantizer on. Each call walks the batches again."""
    tuning: Tuning
    generator: torch.Generator
    """Seeded by unit: the only source of chance."""
    geometry: Geometry | None = None
    """``None``: the inputs are no rows of a matrix product."""

    @property
    def grouping(self) -> Grouping:
        return grouping(self.spec.granularity, tuple(self.weight.shape), self.output_axis)


@dataclass(frozen=True, slots=True, eq=False)
class LayerSolution:
    """Codes ``[outer, groups, size]`` and the grid that they are on."""

    codes: Tensor
    grid: Grid
    fallback: str | None = None
    """Why a solver had to leave the codes of the one before, for the report."""


SolveLayer = Callable[[LayerProblem, LayerSolution | None], LayerSolution]
"""From a problem and what the solver before has found to something at least as good."""


def round_to_nearest(problem: LayerProblem, start: LayerSolution | None) -> LayerSolution:
    """Each weight for itself, on the searched grid or on the grid of ``start``."""
    grid = problem.grid if start is None else start.grid
    return LayerSolution(nearest(problem.grouping.view(problem.weight), grid), grid)


def round_by_columns(problem: LayerProblem, start: LayerSolution | None) -> LayerSolution:
    """OPTQ on the inputs behind the quantized prefix, with the scales of the range search."""
    start = start or round_to_nearest(problem, None)
    if problem.geometry is None:
        return replace(start, fallback="optq: the layer is no matrix product; nearest rounding")
    behind_prefix = (quantized for _, quantized in problem.inputs())
    statistics = gram(behind_prefix, problem.geometry)
    quadratic = _quadratic(problem, start.grid, problem.geometry, statistics)
    tuning = problem.tuning
    try:
        codes, _ = optq(quadratic, order=tuning.order, damping=tuning.damping)
    except NotPositiveDefiniteError:
        return replace(
            start, fallback="optq: the input statistics are degenerate; nearest rounding"
        )
    return _solution(problem, start.grid, problem.geometry, codes)


def _quadratic(
    problem: LayerProblem, grid: Grid, geometry: Geometry, statistics: Tensor
) -> Quadratic:
    view = problem.grouping

    def spread(parameter: Tensor) -> Tensor:
        """One value a scale group, as one value a weight, in rows."""
        size = (view.outer, view.groups, view.size)
        return weight_rows(view.restore(parameter.expand(size)), geometry)

    return Quadratic(
        target=weight_rows(problem.weight.float(), geometry),
        gram=statistics,
        scale=spread(grid.scale),
        zero_point=spread(grid.zero_point),
        qmin=grid.qmin,
        qmax=grid.qmax,
    )


def _solution(
    problem: LayerProblem, grid: Grid, geometry: Geometry, codes: Tensor
) -> LayerSolution:
    restored = weight_of_rows(codes, tuple(problem.weight.shape), geometry)
    return LayerSolution(problem.grouping.view(restored).to(torch.int16), grid)


SOLVERS: tuple[tuple[Solver, SolveLayer], ...] = (
    ("rtn", round_to_nearest),
    ("optq", round_by_columns),
)
"""Solvers of one layer; ``gradient`` works on a block and is in ``reconstruct``."""


def solve(problem: LayerProblem) -> LayerSolution:
    """Run the solvers of the tuning in order, each starting from the last."""
    registry = dict(SOLVERS)
    solution: LayerSolution | None = None
    for name in problem.tuning.solvers:
        if name in registry:
            solution = registry[name](problem, solution)
    if not problem.tuning.solvers:
        raise ValueError(f"the tuning `{problem.tuning.preset}` names no solver")
    return solution or round_to_nearest(problem, None)


def unit_seed(seed: int, unit: str) -> int:
    """A seed that depends on nothing but the run's seed and the unit's name (63 bits)."""
    digest = sha256(f"{seed}\0{unit}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
