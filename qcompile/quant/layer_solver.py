"""The exact layer solver: round a weight so that the layer's output is right, from moments alone.

What is minimised over codes, scales and bias is ``E |W_hat q + b - t|^2 + lambda |W_hat - W|^2``.
Completing the square, that is ``(W_hat - W*) (G + lambda) (W_hat - W*)^T`` and a constant, with the
target ``W* = (E[t q^T] + lambda W) (G + lambda)^-1``: what remains for rounding is one quadratic
form, and every step below lowers it or leaves it. Where the bias is refitted, moments are centred.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from qcompile.methods.tuning import Solver, Tuning
from qcompile.quant.coordinate_descent import coordinate_descent
from qcompile.quant.grid import Grid
from qcompile.quant.layer import Layer
from qcompile.quant.moments import Moments
from qcompile.quant.optq import RETRIES, NotPositiveDefiniteError, optq
from qcompile.quant.quadratic import Quadratic, damped
from qcompile.quant.scale_refit import refit_scale

NEGLIGIBLE = 1e-6
"""Relative gain of a round of refits below which no further one is made."""

Step = Callable[[Quadratic, Tensor, Tuning], Tensor]
"""From a problem and codes to codes."""


def _nearest(problem: Quadratic, _codes: Tensor, _tuning: Tuning) -> Tensor:
    return problem.nearest()


def _optq(problem: Quadratic, _codes: Tensor, tuning: Tuning) -> Tensor:
    codes, _ = optq(problem, order=tuning.order, damping=0.0)  # the Gram matrix is damped already
    return codes


def _descent(problem: Quadratic, codes: Tensor, _tuning: Tuning) -> Tensor:
    return coordinate_descent(problem, codes, max_flips=4 * codes.shape[-1]).codes


STEPS: tuple[tuple[Solver, Step], ...] = (("rtn", _nearest), ("optq", _optq), ("cd", _descent))
"""Solvers of one layer, in the tuning's order; each but ``rtn`` needs moments."""


@dataclass(frozen=True, slots=True, eq=False)
class LayerFit:
    """Codes ``[groups, rows, k]`` with scale and zero point of the same shape."""

    codes: Tensor
    scale: Tensor
    zero_point: Tensor
    grid: Grid
    """Whose code range it is."""
    bias: Tensor | None
    """What is added to the layer's bias, ``[groups, rows]``; ``None``: nothing is refitted."""
    damping: float
    kept: Literal["nearest", "fitted"] = "fitted"

    @property
    def weight(self) -> Tensor:
        return (self.codes - self.zero_point) * self.scale


def fit_layer(
    layer: Layer,
    tuning: Tuning,
    nearest: Grid,
    fit: Moments,
    held: Moments | None,
    *,
    refits_bias: bool,
    importance: Tensor | None = None,
) -> LayerFit:
    """Fit on ``fit``; choose damping, and whether nearest rounding was better, on ``held``.

    ``importance`` ``[groups, rows]`` weighs the outputs in that choice. Raises
    ``NotPositiveDefiniteError`` where the moments are no use.
    """
    dampings = tuning.damping
    if held is None:
        return _fitted(layer, tuning, nearest, fit, dampings[0], refits_bias=refits_bias)

    def error(found: LayerFit) -> float:
        by_output = held.error(found.weight, 0.0 if found.bias is None else found.bias)
        return float((by_output if importance is None else by_output * importance).sum())

    fits = [
        _fitted(layer, tuning, nearest, fit, damping, refits_bias=refits_bias)
        for damping in dampings
    ]
    plain = _rounded(layer, nearest, fit, refits_bias=refits_bias)
    return min([*fits, plain], key=error)


def _rounded(layer: Layer, nearest: Grid, fit: Moments, *, refits_bias: bool) -> LayerFit:
    rows = layer.rows()
    scale, zero_point = layer.spread(nearest.scale), layer.spread(nearest.zero_point)
    codes = (torch.round(rows / scale) + zero_point).clamp(nearest.qmin, nearest.qmax)
    found = LayerFit(codes, scale, zero_point, nearest, None, 0.0, kept="nearest")
    bias = fit.bias(found.weight) if refits_bias else None
    return LayerFit(codes, scale, zero_point, nearest, bias, 0.0, kept="nearest")


def _fitted(
    layer: Layer,
    tuning: Tuning,
    nearest: Grid,
    fit: Moments,
    damping: float,
    *,
    refits_bias: bool,
) -> LayerFit:
    """One fit: target, grid, codes, then scales and codes in turns, then the bias."""
    target, gram, used = ridge_target(layer.rows(), fit.centred() if refits_bias else fit, damping)
    symmetric = tuning.target == "symmetric"
    grid = nearest if symmetric else layer.range_of(target)
    problem = Quadratic(
        target=layer.rows() if symmetric else target,
        gram=gram,
        scale=layer.spread(grid.scale),
        zero_point=layer.spread(grid.zero_point),
        qmin=grid.qmin,
        qmax=grid.qmax,
    )
    problem, codes = _best_start(problem, tuning, tied=layer.scale_size is None)
    steps = dict(STEPS)
    for name in tuning.solvers[1:]:
        if name in steps:
            codes = steps[name](problem, codes, tuning)
    if "scale" in tuning.learn and layer.scale_size is not None:
        problem, codes = _refitted(problem, codes, tuning, layer.scale_size)
    values = problem.values(codes)
    bias = fit.bias(values) if refits_bias else None
    scale = problem.scale.expand_as(target)
    zero_point = problem.zero_point.expand_as(target)
    return LayerFit(codes, scale, zero_point, grid, bias, used)


def ridge_target(weight: Tensor, fit: Moments, damping: float) -> tuple[Tensor, Tensor, float]:
    """``W*``, ``G + lambda`` and the damping that made it positive definite (raised if need be)."""
    for retry in range(RETRIES + 1):
        used = damping * 10**retry
        gram = damped(fit.gram, used)
        lower, info = torch.linalg.cholesky_ex(gram)
        if int(info.abs().max()) == 0:
            bump = (gram - fit.gram).diagonal(dim1=-2, dim2=-1)[:, None, :]
            right = (fit.cross + bump * weight).transpose(1, 2)
            return torch.cholesky_solve(right, lower).transpose(1, 2), gram, used
    raise NotPositiveDefiniteError


def _best_start(problem: Quadratic, tuning: Tuning, *, tied: bool) -> tuple[Quadratic, Tensor]:
    """The first solver at each scale factor: each row keeps the best, tied rows one for all."""
    factors = tuning.scale_factors
    first = dict(STEPS)[tuning.solvers[0]]
    if len(factors) == 1:
        scaled = problem.with_scale(problem.scale * factors[0])
        return scaled, first(scaled, scaled.nearest(), tuning)
    groups, rows, k = problem.target.shape
    count = len(factors)
    many = Quadratic(
        target=problem.target.repeat(1, count, 1),
        gram=problem.gram,
        scale=torch.cat([problem.scale * factor for factor in factors], 1),
        zero_point=problem.zero_point.repeat(1, count, 1),
        qmin=problem.qmin,
        qmax=problem.qmax,
    )
    codes = first(many, many.nearest(), tuning)
    errors = many.objective(codes).view(groups, count, rows)
    if tied:
        errors = errors.sum((0, 2), keepdim=True).expand_as(errors)
    best = errors.argmin(1)[:, None, :, None].expand(groups, 1, rows, k)

    def chosen(x: Tensor) -> Tensor:
        return x.view(groups, count, rows, k).gather(1, best)[:, 0]

    return problem.with_scale(chosen(many.scale)), chosen(codes)


def _refitted(
    problem: Quadratic, codes: Tensor, tuning: Tuning, size: int
) -> tuple[Quadratic, Tensor]:
    """Scales and codes in turns, until neither gains."""
    before = float(problem.objective(codes).sum())
    for _ in range(tuning.refits):
        problem = problem.with_scale(refit_scale(problem, codes, size))
        codes = _descent(problem, codes, tuning)
        after = float(problem.objective(codes).sum())
        if before - after <= NEGLIGIBLE * before:
            break
        before = after
    return problem, codes
