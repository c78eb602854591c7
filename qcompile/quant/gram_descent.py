"""Learn the codes of a layer by gradient, full batch, on its quadratic form.

``||W_hat q - t||^2`` over all samples is a form in ``W_hat`` with the Gram matrix of the inputs, so
that a step costs one product of matrices whatever the number of samples, and has no noise. A row
keeps what it had where learning did not lower its error.
"""

import torch
from torch import Tensor

from qcompile.methods.tuning import Tuning
from qcompile.policy.number_format import NormalFormat
from qcompile.quant.grid import Grid
from qcompile.quant.learned_grid import LearnedGrid
from qcompile.quant.level_grid import LevelGrid
from qcompile.quant.level_learned import LevelLearned
from qcompile.quant.optimizers.rate import set_rate, share_left
from qcompile.quant.optimizers.registry import optimizer
from qcompile.quant.quadratic import Quadratic
from qcompile.quant.uniform_learned import UniformLearned
from qcompile.quant.variables.registry import variable
from qcompile.quant.variables.variable import Start, Variable

OF_MEAN = 0.4
"""The usual ``hardening`` of 10 makes the regulariser 4, as a mean over the weights, where the loss
is in units of that of nearest rounding."""
TINY = 1e-30


def gram_descent(problem: Quadratic, codes: Tensor | None, tuning: Tuning) -> Tensor:
    """Codes ``[groups, rows, k]``; ``codes`` to start from, or none: from the target itself.

    Arithmetic of the steps is in float32, that of the comparison in the problem's own type.
    """
    grid = _grid(problem)
    target, gram = problem.target.float(), problem.gram.float()
    steps = None if codes is None else grid.position_of(codes).float()
    best = _Best(problem, problem.nearest() if codes is None else codes)
    with torch.enable_grad():
        strength = tuning.hardening * OF_MEAN / target.numel()
        learned = variable(Start(target, grid, steps, tuning, strength))
        if not learned.learned():  # the rounding stays as it is
            return best.start
        rule = optimizer(learned.learned(), tuning.optimizer, tuning.rounding_lr)
        unit = problem.objective(problem.nearest()).sum().float().clamp(min=TINY)
        for step in range(tuning.steps):
            learned.prepare(step)
            off = learned.value() - target
            by_row = ((off @ gram) * off).sum(-1)
            best.note(learned, grid, by_row.detach())
            rule.zero_grad()
            (by_row.sum() / unit).backward()
            learned.observe(step)
            set_rate(rule, share_left(tuning.schedule, step, tuning.steps))
            rule.step()
    return best.of(grid.codes(learned.steps()).to(problem.target))


def _grid(problem: Quadratic) -> LearnedGrid:
    scale = problem.scale.expand_as(problem.target).float()
    if problem.levels is not None:
        # no parameter of the format is learned here: any that has none will do
        return LevelLearned(LevelGrid(problem.levels[0], scale), NormalFormat())
    zero_point = problem.zero_point.expand_as(problem.target).float()
    return UniformLearned(Grid(scale, zero_point, problem.qmin, problem.qmax))


class _Best:
    """The best codes of each row: at the start, on the way of a variable without a gap, at the end.

    A variable on the grid has its error for nothing at every step, and the last one is noise.
    """

    def __init__(self, problem: Quadratic, start: Tensor) -> None:
        self.problem = problem
        self.start = start
        self.passed = start.clone()
        self._least: Tensor | None = None

    def note(self, learned: Variable, grid: LearnedGrid, by_row: Tensor) -> None:
        if learned.has_gap:
            return
        if self._least is None:
            self._least = torch.full_like(by_row, torch.inf)
        better = by_row < self._least
        if bool(better.any()):
            codes = grid.codes(learned.steps()).to(self.passed)
            self.passed = torch.where(better[..., None], codes, self.passed)
            self._least = torch.where(better, by_row, self._least)

    def of(self, end: Tensor) -> Tensor:
        found = self.start
        for other in (self.passed, end):
            better = self.problem.objective(other) < self.problem.objective(found)
            found = torch.where(better[..., None], other, found)
        return found
