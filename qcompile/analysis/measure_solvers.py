"""Measure the solvers of a layer: rounding to 4 bits, at sizes that layers have."""

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from qcompile.analysis.mean_seconds import mean_seconds
from qcompile.analysis.speeds import Solver, SolverSpeed
from qcompile.quant.coordinate_descent import coordinate_descent
from qcompile.quant.optq import optq
from qcompile.quant.quadratic import Quadratic, damped
from qcompile.quant.scale_refit import refit_scale

SOLVED = ((16, 64), (64, 64), (64, 1024), (192, 64), (192, 512), (768, 128))
"""Inputs and rows of the layers on which the solvers are timed."""
ROUNDS = 4
"""Of scales and codes in turns, as ``hybrid`` has them."""


def measure_solvers(generator: torch.Generator) -> tuple[SolverSpeed, ...]:
    seconds: dict[Solver, list[float]] = {"ridge": [], "optq": [], "descent": [], "refit": []}
    for k, rows in SOLVED:
        problem = _problem(k, rows, generator)

        def ridge(problem: Quadratic = problem) -> Tensor:
            lower = torch.linalg.cholesky(problem.gram)
            return torch.cholesky_solve(problem.target.transpose(1, 2), lower)

        seconds["ridge"].append(mean_seconds(ridge))
        narrow = _in_float32(problem)  # only the ridge is in double precision
        codes, _ = optq(narrow, damping=0.0)

        def round_all(problem: Quadratic = narrow) -> object:
            return optq(problem, damping=0.0)

        def descend(problem: Quadratic = narrow, codes: Tensor = codes) -> Tensor:
            return coordinate_descent(problem, codes, max_flips=4 * codes.shape[-1]).codes

        seconds["optq"].append(mean_seconds(round_all))
        seconds["descent"].append(mean_seconds(descend))
        seconds["refit"].append(_refit(narrow, descend()))
    return tuple(_solver_speed(kind, found) for kind, found in seconds.items())


def _refit(problem: Quadratic, codes: Tensor) -> float:
    """Of one round of new scales and new codes: the later ones move less and less."""
    started = time.thread_time()
    residual: Tensor | None = None
    for _ in range(ROUNDS):
        refit = refit_scale(problem, codes, codes.shape[-1], residual)
        problem = problem.with_scale(refit.scale[..., : problem.scale.shape[2]])
        limit = 4 * codes.shape[-1]
        found = coordinate_descent(problem, codes, max_flips=limit, residual=refit.residual)
        codes, residual = found.codes, found.residual
    return (time.thread_time() - started) / ROUNDS


def _in_float32(problem: Quadratic) -> Quadratic:
    return replace(
        problem,
        target=problem.target.float(),
        gram=problem.gram.float(),
        scale=problem.scale.float(),
        zero_point=problem.zero_point.float(),
    )


def _problem(k: int, rows: int, generator: torch.Generator) -> Quadratic:
    """Rounding to 4 bits behind inputs that depend on one another."""
    mixing = torch.randn(k, k, generator=generator, dtype=torch.float64) / k**0.5
    gram = damped((mixing @ mixing.T)[None], 0.1)
    target = torch.randn(1, rows, k, generator=generator, dtype=torch.float64)
    scale = target.abs().amax(-1, keepdim=True) / 7
    return Quadratic(target, gram, scale, torch.zeros_like(scale), -8, 7)


def _solver_speed(kind: Solver, seconds: Sequence[float]) -> SolverSpeed:
    """The least relative error of terms that are not negative."""
    terms = np.array([[k, k * k * rows, k**3] for k, rows in SOLVED], dtype=np.float64)
    relative = terms / np.array(seconds)[:, None]
    kept = [0, 1, 2]
    while True:
        found = np.linalg.lstsq(relative[:, kept], np.ones(len(seconds)), rcond=None)[0]
        if (found >= 0).all():
            break
        kept = [at for at, value in zip(kept, found, strict=True) if value > 0]
    values = dict(zip(kept, map(float, found), strict=True))
    return SolverSpeed(
        kind=kind, column=values.get(0, 0.0), product=values.get(1, 0.0), cube=values.get(2, 0.0)
    )
