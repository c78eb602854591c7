"""The exact layer solver: round a weight so that the layer's output is right, from moments alone.

What is minimised over codes, scales and bias is ``E |W_hat q + b - t|^2 + lambda |W_hat - W|^2``.
Completing the square, that is ``(W_hat - W*) (G + lambda) (W_hat - W*)^T`` and a constant, with the
target ``W* = (E[t q^T] + lambda W) (G + lambda)^-1``: what remains for rounding is one quadratic
form, and every step below lowers it or leaves it. Where the bias is refitted, moments are centred.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from qcompile.methods.tuning import Solver, Tuning
from qcompile.quant.coordinate_descent import Descent, coordinate_descent
from qcompile.quant.elimination import Elimination, eliminate, stacked
from qcompile.quant.gram_descent import gram_descent
from qcompile.quant.layer import Layer, LayerGrid, codes_of, zero_of
from qcompile.quant.level_grid import LevelGrid
from qcompile.quant.moments import Means, Moments
from qcompile.quant.optq import optq
from qcompile.quant.quadratic import Quadratic
from qcompile.quant.scale_refit import refit_scale
from qcompile.quant.scale_search import search_scale

NEGLIGIBLE = 1e-6
"""Relative gain that is none: of a round of refits, of another damping."""

EXACT = 1e-10
"""Share of an output's power by which two weights may differ through the rounding of sums alone."""

TRIAL_ROWS = 128
"""Outputs of a group on which dampings are compared."""

AT_ONCE = 64 << 20
"""Bytes of factors, in double precision, of dampings that are tried together."""

ALL_ROWS = slice(None)


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """What a step may look at besides the problem."""

    tuning: Tuning
    elimination: Elimination
    """Of the problem's Gram matrix, which is damped."""


Step = Callable[[Quadratic, Tensor | None, Setting], Tensor]
"""From a problem and codes to codes; the first solver gets none."""


def _nearest(problem: Quadratic, _codes: Tensor | None, _setting: Setting) -> Tensor:
    return problem.nearest()


def _optq(problem: Quadratic, _codes: Tensor | None, setting: Setting) -> Tensor:
    codes, _ = optq(problem, elimination=setting.elimination)
    return codes


def _gram(problem: Quadratic, codes: Tensor | None, setting: Setting) -> Tensor:
    return gram_descent(problem, codes, setting.tuning)


def _descent(problem: Quadratic, codes: Tensor | None, _setting: Setting) -> Tensor:
    return _descended(problem, problem.nearest() if codes is None else codes).codes


def _descended(problem: Quadratic, codes: Tensor, residual: Tensor | None = None) -> Descent:
    return coordinate_descent(problem, codes, max_flips=4 * codes.shape[-1], residual=residual)


STEPS: tuple[tuple[Solver, Step], ...] = (
    ("rtn", _nearest),
    ("optq", _optq),
    ("gram", _gram),
    ("cd", _descent),
)
"""Solvers of one layer, in the tuning's order; each but ``rtn`` needs moments."""


@dataclass(frozen=True, slots=True, eq=False)
class LayerFit:
    """Codes ``[groups, rows, k]`` with scale and zero point of the same shape, in float32."""

    codes: Tensor
    """Of levels: their places in order."""
    scale: Tensor
    zero_point: Tensor
    weight: Tensor
    """What the codes stand for, in float64."""
    grid: LayerGrid
    """Whose code range it is."""
    bias: Tensor | None
    """What is added to the layer's bias, ``[groups, rows]``; ``None``: nothing is refitted."""
    damping: float
    """0 for nearest rounding."""
    raised: bool = False
    """The damping that was asked for did not make the Gram matrix positive definite."""
    blend: float = 1.0
    """What was fitted is ``W + blend (W* - W)``, in the mean of groups."""


def fit_layer(
    layer: Layer,
    tuning: Tuning,
    nearest: LayerGrid,
    fit: Moments,
    held: Moments | None,
    *,
    refits_bias: bool,
    importance: Tensor | None = None,
) -> LayerFit:
    """Fit on ``fit``; choose damping, target, and whether nearest rounding was better, on ``held``.

    The target of a group lies on the way from ``W`` to ``W*``, where ``held`` has the least error:
    what ``W*`` makes good on the samples of the fit need not hold on others. Dampings are compared
    by the first solver alone, on the grid of nearest rounding and on some of the rows: a search of
    the grid and all further steps for each would take most of the time.

    ``importance`` ``[groups, rows]`` weighs the outputs in that choice. Raises
    ``NotPositiveDefiniteError`` where the moments are no use.
    """
    if tuning.target == "symmetric":
        fit = fit.of_product(layer.rows())
        held = None if held is None else held.of_product(layer.rows())
    centred = fit.centred() if refits_bias else fit
    weight = layer.rows()
    judge = None if held is None else _Judge(held, importance)
    if judge is None or len(tuning.damping) == 1:
        start = _Start(eliminate(centred.gram, tuning.order, tuning.damping[0]))
    else:
        trial = _Trial(layer, tuning, nearest, fit, centred, refits_bias=refits_bias)
        start = trial.best(judge)
        del trial
    means = fit.means if refits_bias else None
    ridge = start.ridge(weight, centred)
    del fit, centred, start  # wide layers: matrices that are needed no more are not held
    found = _fitted(layer, tuning, nearest, means, ridge)
    if judge is None:
        return found
    return min(found, _rounded(layer, nearest, means), key=judge.error_of)


def tried_at_once(dampings: int, gram_bytes: int) -> int:
    """Few wide factors are held at a time."""
    return min(dampings, max(AT_ONCE // max(gram_bytes, 1), 1))


@dataclass(frozen=True, slots=True, eq=False)
class _Judge:
    """Samples that took no part in the fit."""

    held: Moments
    importance: Tensor | None

    def error(self, weight: Tensor, bias: Tensor | None) -> float:
        return float(self._by_group(weight, bias).sum())

    def error_of(self, fit: LayerFit) -> float:
        return self.error(fit.weight, fit.bias)

    def blend(self, weight: Tensor, target: Tensor, means: Means | None) -> Tensor:
        """Where from ``weight``, 0, to ``target``, 1, the error is least: it is a parabola.

        Of each group, ``[groups, 1, 1]``; 1 where both are one.
        """
        start, middle, end = (
            self._by_group(point, None if means is None else means.bias(point))
            for point in (weight, (weight + target) / 2, target)
        )
        curvature = 2 * (start - 2 * middle + end)
        least = (0.5 + (start - end) / (2 * curvature)).clamp(0, 1)
        differ = curvature > EXACT * self._summed(self.held.power)
        return torch.where(differ, least, torch.ones_like(least))[:, None, None]

    def of_rows(self, rows: slice) -> "_Judge":
        importance = None if self.importance is None else self.importance[:, rows]
        return _Judge(self.held.of_rows(rows), importance)

    def _by_group(self, weight: Tensor, bias: Tensor | None) -> Tensor:
        return self._summed(self.held.error(weight, 0.0 if bias is None else bias))

    def _summed(self, by_output: Tensor) -> Tensor:
        return (by_output if self.importance is None else by_output * self.importance).sum(1)


@dataclass(frozen=True, slots=True, eq=False)
class _Start:
    """What a fit sets out from."""

    elimination: Elimination
    blend: Tensor | None = None
    """``[groups, 1, 1]``: how much of the way to ``W*`` is gone; ``None``: all of it."""

    def ridge(self, weight: Tensor, fit: Moments) -> "Ridge":
        found = ridge_target(weight, fit, self.elimination)
        return found if self.blend is None else found.blended(weight, self.blend)


@dataclass(frozen=True, slots=True, eq=False)
class _Trial:
    """A cheap fit, from which a damping is judged."""

    layer: Layer
    tuning: Tuning
    grid: LayerGrid
    fit: Moments
    centred: Moments
    """Of the same samples, if the bias is refitted."""
    refits_bias: bool

    def best(self, judge: _Judge) -> _Start:
        dampings, gram = self.tuning.damping, self.centred.gram
        at_once = tried_at_once(len(dampings), gram.numel() * gram.element_size())
        best, least = None, 0.0
        for first in range(0, len(dampings), at_once):
            for one, error in self._errors(judge, dampings[first : first + at_once]):
                if best is None or error < least * (1 - NEGLIGIBLE):
                    best, least = one, error
        assert best is not None
        return best

    def _errors(self, judge: _Judge, dampings: Sequence[float]) -> Iterator[tuple[_Start, float]]:
        tried = [eliminate(self.centred.gram, self.tuning.order, one) for one in dampings]
        weight = self.layer.rows()
        rows = slice(None, None, max(weight.shape[1] // TRIAL_ROWS, 1))
        weight, fit, judge = weight[:, rows], self.centred.of_rows(rows), judge.of_rows(rows)
        means = self.fit.of_rows(rows).means if self.refits_bias else None
        targets = [solved_target(weight, fit, one) for one in tried]
        starts = [_Start(one) for one in tried]
        if self.tuning.target != "symmetric":
            blends = [judge.blend(weight, target, means) for target in targets]
            starts = [_Start(*both) for both in zip(tried, blends, strict=True)]
            targets = [torch.lerp(weight, *both) for both in zip(targets, blends, strict=True)]
        # learning for each damping would take most of the time, and differ little
        name = self.tuning.solvers[0] if self.tuning.solvers[0] != "gram" else "optq"
        # wide layers: what a solver does not look at is not held
        grams = [one.damped(fit.gram) for one in tried] if name == "cd" else [weight.new_empty(0)]
        problem = _problem(self.layer, self.grid, torch.cat(targets), torch.cat(grams), rows)
        setting = Setting(self.tuning, stacked([one.single() for one in tried]))
        values = problem.values(dict(STEPS)[name](problem, None, setting)).double()
        for start, part in zip(starts, values.chunk(len(tried)), strict=True):
            yield start, judge.error(part, None if means is None else means.bias(part))


def _rounded(layer: Layer, nearest: LayerGrid, means: Means | None) -> LayerFit:
    scale, zero_point = layer.spread(nearest.scale), layer.spread(zero_of(nearest))
    qmin, qmax, levels = codes_of(nearest)
    rows = layer.rows()
    # of the Gram matrix nothing is needed
    problem = Quadratic(rows, rows.new_empty(0), scale, zero_point, qmin, qmax, levels)
    codes = problem.nearest()
    weight = problem.values(codes)
    bias = None if means is None else means.bias(weight)
    return LayerFit(codes, scale, zero_point, weight, nearest, bias, 0.0)


def _fitted(
    layer: Layer, tuning: Tuning, nearest: LayerGrid, means: Means | None, ridge: "Ridge"
) -> LayerFit:
    """One fit: grid, codes, then scales and codes in turns, then the bias, if it is refitted."""
    own = tuning.target == "symmetric" or ridge.blend == 0
    grid = nearest
    if not own and not isinstance(nearest, LevelGrid):
        # nearest rounding hands no error on to later columns
        costs = None if tuning.solvers[0] == "rtn" else ridge.elimination.costs
        grid = layer.range_of(ridge.target, costs)
    setting = Setting(tuning, ridge.elimination)
    problem = _problem(layer, grid, ridge.target, ridge.gram)
    problem, codes = _best_start(problem, setting, layer)
    steps = dict(STEPS)
    for name in tuning.solvers[1:]:
        if name in steps:
            codes = steps[name](problem, codes, setting)
    if "scale" in tuning.learn and layer.has_free_scale and layer.scale_size is not None:
        fitted = _rescaled if tuning.fits_nearest else _refitted
        problem, codes = fitted(problem, codes, setting, layer.scale_size)
    scale, zero_point = problem.scale.expand_as(codes), problem.zero_point.expand_as(codes)
    weight = problem.steps(codes.double(), zero_point).double() * scale
    bias = None if means is None else means.bias(problem.values(codes).double())
    used = ridge.elimination
    return LayerFit(
        codes=codes,
        scale=scale,
        zero_point=zero_point,
        weight=weight,
        grid=grid,
        bias=bias,
        damping=used.damping,
        raised=used.raised,
        blend=ridge.blend,
    )


def _problem(
    layer: Layer, grid: LayerGrid, target: Tensor, gram: Tensor, rows: slice = ALL_ROWS
) -> Quadratic:
    """In float32. ``target`` may have the groups, and the rows of each, several times over."""
    width = 1 if layer.scale_size == target.shape[2] else None
    qmin, qmax, levels = codes_of(grid)

    def spread(parameter: Tensor) -> Tensor:
        one = layer.spread(parameter)[:, rows, :width].float()
        return one.repeat(target.shape[0] // one.shape[0], target.shape[1] // one.shape[1], 1)

    return Quadratic(
        target=target.float(),
        gram=gram,
        scale=spread(grid.scale),
        zero_point=spread(zero_of(grid)),
        qmin=qmin,
        qmax=qmax,
        levels=levels,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Ridge:
    """The target ``W*`` ``[groups, rows, k]`` and the matrix ``G + lambda`` of its error.

    Damping is raised where it does not make the matrix positive definite.
    """

    target: Tensor
    """In float64."""
    gram: Tensor
    """In float32, as is the factor: damping has bounded how much is lost by that."""
    elimination: Elimination
    blend: float = 1.0
    """The target lies so far on the way from ``W`` to ``W*``, in the mean of groups."""

    def blended(self, weight: Tensor, blend: Tensor) -> "Ridge":
        """``blend`` ``[groups, 1, 1]``: how much of the way to ``W*`` is gone."""
        target = torch.lerp(weight, self.target, blend)
        return replace(self, target=target, blend=float(blend.mean()))


def ridge_target(weight: Tensor, fit: Moments, elimination: Elimination) -> Ridge:
    """Of rows ``[groups, rows, k]`` of the layer's weight and the moments of their outputs."""
    target = solved_target(weight, fit, elimination)
    return Ridge(target, elimination.damped(fit.gram), elimination.single())


def solved_target(weight: Tensor, fit: Moments, elimination: Elimination) -> Tensor:
    """``W*`` alone, in float64."""
    bump = (elimination.diagonal - fit.gram.diagonal(dim1=-2, dim2=-1))[:, None, :]
    return elimination.solved(fit.cross + bump * weight)


def _best_start(problem: Quadratic, setting: Setting, layer: Layer) -> tuple[Quadratic, Tensor]:
    """The first solver at each scale factor: each row keeps the best, tied rows one for all."""
    factors = setting.tuning.scale_factors if layer.has_free_scale else (1.0,)
    tied = layer.scale_size is None
    first = dict(STEPS)[setting.tuning.solvers[0]]
    if len(factors) == 1:
        scaled = problem.with_scale(problem.scale * factors[0])
        return scaled, first(scaled, None, setting)
    groups, rows, _ = problem.target.shape
    count = len(factors)
    many = replace(
        problem,
        target=problem.target.repeat(1, count, 1),
        scale=torch.cat([problem.scale * factor for factor in factors], 1),
        zero_point=problem.zero_point.repeat(1, count, 1),
    )
    codes = first(many, None, setting)
    errors = many.objective(codes).view(groups, count, rows)
    if tied:
        errors = errors.sum((0, 2), keepdim=True).expand_as(errors)
    best = errors.argmin(1)[:, None, :, None]

    def chosen(x: Tensor) -> Tensor:
        width = x.shape[2]
        place = best.expand(groups, 1, rows, width)
        return x.view(groups, count, rows, width).gather(1, place)[:, 0]

    return problem.with_scale(chosen(many.scale)), chosen(codes)


def _rescaled(
    problem: Quadratic, _codes: Tensor, _setting: Setting, size: int
) -> tuple[Quadratic, Tensor]:
    """Rounding to nearest stays what it is: only its scale is chosen."""
    scale = search_scale(problem, size)
    problem = problem.with_scale(scale[..., : problem.scale.shape[2]])
    return problem, problem.nearest()


def _refitted(
    problem: Quadratic, codes: Tensor, setting: Setting, size: int
) -> tuple[Quadratic, Tensor]:
    """Scales and codes in turns, until neither gains; the residual is carried along."""
    residual = problem.residual(codes)
    before = float(problem.objective(codes, residual).sum())
    for _ in range(setting.tuning.refits):
        refit = refit_scale(problem, codes, size, residual)
        problem = problem.with_scale(refit.scale[..., : problem.scale.shape[2]])
        descent = _descended(problem, codes, refit.residual)
        codes, residual = descent.codes, descent.residual
        after = float(problem.objective(codes, residual).sum())
        if before - after <= NEGLIGIBLE * before:
            break
        before = after
    return problem, codes
