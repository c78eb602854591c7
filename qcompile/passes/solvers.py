"""How the codes of one layer are chosen: the solvers of a tuning, run in order."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256

import torch
from torch import Tensor

from qcompile.methods.tuning import Solver, Tuning
from qcompile.policy.scheme import QuantSlot
from qcompile.quant.grid import Grid
from qcompile.quant.grouping import Grouping, grouping
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

    @property
    def grouping(self) -> Grouping:
        return grouping(self.spec.granularity, tuple(self.weight.shape), self.output_axis)


@dataclass(frozen=True, slots=True, eq=False)
class LayerSolution:
    """Codes ``[outer, groups, size]`` and the grid that they are on."""

    codes: Tensor
    grid: Grid


SolveLayer = Callable[[LayerProblem, LayerSolution | None], LayerSolution]
"""From a problem and what the solver before has found to something at least as good."""


def round_to_nearest(problem: LayerProblem, start: LayerSolution | None) -> LayerSolution:
    """Each weight for itself, on the searched grid or on the grid of ``start``."""
    grid = problem.grid if start is None else start.grid
    return LayerSolution(nearest(problem.grouping.view(problem.weight), grid), grid)


SOLVERS: tuple[tuple[Solver, SolveLayer], ...] = (("rtn", round_to_nearest),)


def solve(problem: LayerProblem) -> LayerSolution:
    """Run the solvers of the tuning in order, each starting from the last."""
    registry = dict(SOLVERS)
    solution: LayerSolution | None = None
    for name in problem.tuning.solvers:
        solution = registry[name](problem, solution)
    if solution is None:
        raise ValueError(f"the tuning `{problem.tuning.preset}` names no solver")
    return solution


def unit_seed(seed: int, unit: str) -> int:
    """A seed that depends on nothing but the run's seed and the unit's name (63 bits)."""
    digest = sha256(f"{seed}\0{unit}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
