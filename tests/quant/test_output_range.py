"""The range behind which a layer's output can be made right best, against float64 and by hand."""

from dataclasses import replace
from math import inf, nan

import pytest
import torch

from qcompile.quant.grid import Grid, covering
from qcompile.quant.output_range import (
    FEWEST,
    LEAST,
    MOST,
    MOST_FITTED,
    MOST_JUDGING,
    ROWS,
    Drawn,
    Fit,
    OutputError,
    output_range,
    rows_looked_at,
)

DAMPING = 0.01


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def problem(
    groups=2, rows=60, k=8, outputs=3, *, weighted=False, gain=False, centred=True, fitted=True
):
    weight = draw(groups, outputs, k, seed=1)

    def part(seed):
        inputs = draw(groups, rows, k, seed=seed) + 0.5
        wanted = inputs @ weight.transpose(1, 2) + 0.1 * draw(groups, rows, outputs, seed=seed + 9)
        own = draw(1, rows, seed=seed + 5).abs() if weighted else torch.ones(1, rows)
        return Drawn(inputs, wanted, own)

    gains = draw(groups, outputs, seed=4).abs() if gain else None
    fit = Fit(part(2), centred, DAMPING) if fitted else None
    return OutputError(weight, part(3), gains, fit)


def all_of(x):
    return covering(x.amin().view(1), x.amax().view(1), 0, 15, symmetric=False)


def by_hand(error, grid):
    """Least squares in float64, with the ridge as further rows; each group for itself."""
    total = 0.0
    for group, weight in enumerate(error.weight.double()):
        held = error.held
        off_q, off_t = grid.fake_quantize(held.inputs[group]).double(), held.wanted[group].double()
        if error.fit is not None:
            rows = error.fit.rows
            q, t, own = (
                grid.fake_quantize(rows.inputs[group]).double(),
                rows.wanted[group].double(),
                rows.weights[0].double(),
            )
            if error.fit.centred:
                mean_q, mean_t = (own @ q) / own.sum(), (own @ t) / own.sum()
                q, t, off_q, off_t = q - mean_q, t - mean_t, off_q - mean_q, off_t - mean_t
            root = own.sqrt()[:, None]
            bump = error.fit.damping * (root * q).square().sum(0).mean()
            ridge = bump.sqrt() * torch.eye(q.shape[1]).double()
            weight = torch.linalg.lstsq(
                torch.cat([root * q, ridge]), torch.cat([root * t, ridge @ weight.T])
            ).solution.T
        off = off_q @ weight.T - off_t
        if error.gain is not None:
            off = off * error.gain[group].double()
        total += float((off.square().sum(1) * held.weights[0].double()).sum())
    return total


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("gain", [True, False])
@pytest.mark.parametrize("fitted", [True, False])
def test_the_error_is_what_the_best_weight_leaves_on_other_rows(centred, weighted, gain, fitted):
    error = problem(weighted=weighted, gain=gain, centred=centred, fitted=fitted)
    grid = all_of(error.held.inputs)
    assert error(grid) == pytest.approx(by_hand(error, grid), rel=1e-4)


def told_by_others(rows=600, k=12, seed=0):
    """Inputs that are two numbers in many mixtures, with a few large values."""
    parts = draw(1, rows, 2, seed=seed) * (1 + 3 * (draw(1, rows, 1, seed=seed + 1).abs() > 2))
    return parts @ draw(2, k, seed=99) + 0.1 * draw(1, rows, k, seed=seed + 2)


def of_inputs(draws, *, fitted=True):
    first = draws(seed=0)
    weight = draw(1, 5, first.shape[2], seed=7)

    def part(x):
        return Drawn(x, x @ weight.transpose(1, 2), torch.ones(1, x.shape[1]))

    fit = Fit(part(first), centred=True, damping=DAMPING) if fitted else None
    return OutputError(weight, part(draws(seed=50)), fit=fit)


def test_what_others_can_tell_is_cut_off_if_the_weight_is_fitted():
    fitted, fixed = of_inputs(told_by_others), of_inputs(told_by_others, fitted=False)
    best_of_fixed = output_range(fixed, output_range(fixed, all_of(fixed.held.inputs)))
    found = output_range(fitted, best_of_fixed)
    assert float(found.scale) < 0.9 * float(best_of_fixed.scale)
    assert torch.equal(found.zero_point, best_of_fixed.zero_point)
    assert fitted(found) < 0.95 * fitted(best_of_fixed)
    assert fixed(found) > fixed(best_of_fixed)


def test_a_range_that_cuts_off_too_much_is_widened():
    error = of_inputs(lambda seed: draw(1, 600, 12, seed=seed))
    start = all_of(error.held.inputs)
    small = replace(start, scale=start.scale / 2)
    found = output_range(error, small)
    assert float(found.scale) > 1.1 * float(small.scale)
    assert error(found) < 0.9 * error(small)


def bowl(lowest, seen):
    def error(grid):
        share = round(float(grid.scale), 3)
        seen.append(share)
        return abs(share - lowest) + 1.0

    return error


UNIT = Grid(torch.ones(1), torch.zeros(1), 0, 15)


@pytest.mark.parametrize(
    ("lowest", "found", "seen"),
    [
        (0.8, 0.8, [1, 0.9, 0.8, 0.7]),
        (1.2, 1.2, [1, 0.9, 1.1, 1.2, 1.3]),
        (1.0, 1.0, [1, 0.9, 1.1]),
    ],
)
def test_the_walk_ends_where_it_no_longer_leads_down(lowest, found, seen):
    shares = []
    assert float(output_range(bowl(lowest, shares), UNIT).scale) == pytest.approx(found)
    assert shares == seen


@pytest.mark.parametrize(("lowest", "end"), [(-5, LEAST), (9, MOST)])
def test_the_walk_does_not_leave_its_bounds(lowest, end):
    assert float(output_range(bowl(lowest, []), UNIT).scale) == pytest.approx(end)


@pytest.mark.parametrize("error", [nan, inf, 0.0])
def test_nothing_to_compare_leaves_the_start(error):
    assert output_range(lambda _: error, UNIT) is UNIT


def test_a_start_that_cannot_be_judged_stays():
    assert output_range(lambda grid: inf if grid is UNIT else 1.0, UNIT) is UNIT


def test_no_weight_is_an_infinite_error():
    error = problem()
    error.fit.rows.inputs[0, 3, 2] = nan
    assert error(UNIT) == inf


def test_the_least_scale_is_no_denormal_number():
    tiny = torch.finfo(torch.float32).tiny
    start = replace(UNIT, scale=torch.tensor([2 * tiny]))
    found = output_range(lambda grid: float(grid.scale / tiny), start)
    assert float(found.scale) == tiny


def test_inputs_that_are_never_seen_do_no_harm():
    error = problem()
    for part in (error.fit.rows, error.held):
        part.inputs[..., 3] = 0
        part.inputs[1] = 0
    grid = all_of(error.held.inputs)
    assert error(grid) == pytest.approx(by_hand(error, grid), rel=1e-3)


@pytest.mark.parametrize(
    ("groups", "k"), [(1, 8), (1, 384), (1, 1536), (1152, 25), (1, 14_336), (1, 1 << 24)]
)
def test_rows_are_enough_for_a_weight_and_bounded(groups, k):
    fitted, judging = rows_looked_at(groups, k)
    assert FEWEST <= judging <= min(ROWS, fitted)
    assert fitted >= 3 * k or fitted == judging or groups * k * fitted <= MOST_FITTED
    assert judging == FEWEST or groups * k * judging <= MOST_JUDGING
