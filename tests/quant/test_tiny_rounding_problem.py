"""Every layer-local solver on a rounding problem small enough for brute force.

``n = 8`` weights, ``T = 16`` samples, everything in closed form (sines and cosines), float64. The
reference values were computed independently with NumPy; they are exact to the digits shown.
"""

from itertools import product

import pytest
import torch

from qcompile.quant.coordinate_descent import coordinate_descent
from qcompile.quant.optq import optq
from qcompile.quant.quadratic import Quadratic, damped
from qcompile.quant.rounding_gate import BetaSchedule, SoftRound, hard_steps, initial_variable
from qcompile.quant.scale_refit import refit_scale

T = torch.arange(16, dtype=torch.float64)[:, None]
J = torch.arange(8, dtype=torch.float64)[None, :]
X = 1 + 0.6 * torch.sin(1 + 3 * T + 7 * J + 0.5 * T * J)
W = ((0.5 + 0.1 * J) * torch.cos(2 + 3 * J))[0]
G = X.T @ X / 16
EXACT = 5e-13


def problem(bits, weight=W, gram=G):
    top = (1 << (bits - 1)) - 1
    scale = W.abs().max() / top
    return Quadratic(
        target=weight[None, None],
        gram=gram[None],
        scale=scale.reshape(1, 1, 1),
        zero_point=torch.zeros(1, 1, 1, dtype=torch.float64),
        qmin=-top - 1,
        qmax=top,
    )


def error(p, codes):
    return p.objective(torch.as_tensor(codes, dtype=torch.float64).reshape(1, 1, 8)).item()


def brute_force(p, up_down_only):
    floor = torch.floor(W / p.scale.item())
    if up_down_only:
        choices = [[int(f), int(f) + 1] for f in floor]
    else:
        choices = [range(p.qmin, p.qmax + 1)] * 8
    # the halves of all rows: (a + b) G (a + b) = a G a + b G b + 2 a G b
    left, right = (
        torch.tensor(list(product(*half)), dtype=torch.float64).clamp(p.qmin, p.qmax)
        for half in (choices[:4], choices[4:])
    )
    a, b = left * p.scale.item() - W[:4], right * p.scale.item() - W[4:]
    errors = 2 * (a @ G[:4, 4:] @ b.T)
    errors += ((a @ G[:4, :4]) * a).sum(1)[:, None] + ((b @ G[4:, 4:]) * b).sum(1)
    best = divmod(int(errors.argmin()), len(right))
    codes = torch.cat([left[best[0]], right[best[1]]])
    return codes.long().tolist(), errors[best].item()


def test_three_bit_scale_and_nearest():
    p = problem(3)
    assert p.scale.item() == pytest.approx(0.213133208133, abs=EXACT)
    assert p.nearest()[0, 0].long().tolist() == [-1, 1, 0, 0, 1, -1, 2, -3]
    assert error(p, p.nearest()) == pytest.approx(0.074672873288, abs=EXACT)


def test_three_bit_optima_by_brute_force():
    p = problem(3)
    codes, best = brute_force(p, up_down_only=True)
    assert codes == [-1, 1, -1, 0, 1, -1, 2, -3]
    assert best == pytest.approx(0.007505311962, abs=EXACT)
    codes, best = brute_force(p, up_down_only=False)
    assert codes == [-1, 1, 0, 0, 1, -1, 2, -4]
    assert best == pytest.approx(0.006967223767, abs=EXACT)
    assert error(p, codes) == pytest.approx(best, abs=EXACT)


def test_two_bit_optimum_is_between_neighbours():
    p = problem(2)
    assert error(p, p.nearest()) == pytest.approx(0.269599277367, abs=EXACT)
    codes, best = brute_force(p, up_down_only=True)
    assert (codes, best) == brute_force(p, up_down_only=False)
    assert best == pytest.approx(0.069149979048, abs=EXACT)


def test_three_bit_scale_on_a_grid_of_hundredths():
    p = problem(3)
    tried = {step: p.with_scale(p.scale * step / 100) for step in range(50, 121)}
    errors = {step: error(one, one.nearest()) for step, one in tried.items()}
    assert min(errors, key=errors.__getitem__) == 74
    assert errors[74] == pytest.approx(0.001741643510, abs=EXACT)


@pytest.mark.parametrize(
    ("bits", "order", "damping", "expected"),
    [
        (3, "natural", 0.01, 0.007505311962),
        (3, "natural", 1e-4, 0.007505311962),
        (3, "activation", 0.01, 0.011361961909),
        (2, "natural", 0.01, 0.172992337363),
        (2, "activation", 0.01, 0.069149979048),
    ],
)
def test_optq(bits, order, damping, expected):
    p = problem(bits)
    codes, _ = optq(p, order=order, damping=damping, leaf=3)
    assert error(p, codes) == pytest.approx(expected, abs=EXACT)


@pytest.mark.parametrize("share", [1.0, 0.4], ids=["wide", "clipped"])
@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("order", ["natural", "activation"])
@pytest.mark.parametrize("leaf", [1, 3, 8, 128])
def test_optq_running_loss_is_the_damped_objective(bits, order, leaf, share):
    p = problem(bits)
    p = p.with_scale(p.scale * share)
    codes, loss = optq(p, order=order, damping=0.01, leaf=leaf)
    clipped = (p.target / p.scale).round() != p.nearest()
    assert clipped.any() == (share < 1)
    off = p.values(codes) - p.target
    exact = ((off @ damped(p.gram, 0.01)) * off).sum()
    assert loss.item() == pytest.approx(exact.item(), rel=1e-12)


def test_optq_with_a_diagonal_gram_is_nearest():
    p = problem(3, gram=torch.diag(torch.arange(1.0, 9.0, dtype=torch.float64)))
    codes, _ = optq(p, order="activation")
    assert torch.equal(codes, p.nearest())


@pytest.mark.parametrize(("bits", "expected"), [(3, 0.006967223767), (2, 0.069149979048)])
def test_descent_from_nearest_needs_one_flip(bits, expected):
    p = problem(bits)
    result = coordinate_descent(p, p.nearest(), max_flips=50)
    assert result.flips == 1
    assert coordinate_descent(p, result.codes, max_flips=1).flips == 0
    assert error(p, result.codes) == pytest.approx(expected, abs=EXACT)


def test_descent_and_refit_keep_the_residual():
    p = problem(3)
    start = torch.randint(-4, 4, (1, 1, 8), generator=torch.Generator().manual_seed(0)).double()
    descent = coordinate_descent(p, start, max_flips=3)
    assert torch.allclose(descent.residual, p.residual(descent.codes), rtol=1e-12, atol=1e-12)
    refit = refit_scale(p, descent.codes, 4, descent.residual)
    moved = p.with_scale(refit.scale)
    assert torch.allclose(refit.residual, moved.residual(descent.codes), rtol=1e-12, atol=1e-12)
    on = coordinate_descent(moved, descent.codes, max_flips=9, residual=refit.residual)
    fresh = coordinate_descent(moved, descent.codes, max_flips=9)
    assert torch.equal(on.codes, fresh.codes)


def test_descent_result_has_no_better_neighbour():
    p = problem(3)
    start = torch.randint(-4, 4, (1, 1, 8), generator=torch.Generator().manual_seed(0)).double()
    result = coordinate_descent(p, start, max_flips=100)
    here = error(p, result.codes)
    for column in range(8):
        for step in (-1, 1):
            neighbour = result.codes.clone()
            neighbour[0, 0, column] += step
            if p.qmin <= neighbour[0, 0, column] <= p.qmax:
                assert error(p, neighbour) >= here - 1e-15


def nearest_then_refit(row, gram, qmin, qmax):
    """Scale and objective of the best codes that nearest rounding yields at any scale, refitted.

    ``row`` is ``[k]``, no zero point. Nearest codes change only at ``s = |w_j| / (m + 1/2)``;
    between two such scales they are fixed, and their own best scale (which may lie outside the
    interval) is closed-form: exact by enumeration.
    """
    steps = torch.arange(max(-qmin, qmax), dtype=row.dtype) + 0.5
    breaks = (row.abs()[:, None] / steps).flatten()
    breaks = breaks[breaks > 0].unique()
    low = torch.cat([breaks[:1] / 2, breaks[:-1]])
    codes = torch.round(row / ((low + breaks) / 2)[:, None]).clamp(qmin, qmax)
    problem = Quadratic(
        target=row.expand_as(codes)[None],
        gram=gram[None],
        scale=breaks[None, :, None],
        zero_point=torch.zeros(1, 1, 1, dtype=row.dtype),
        qmin=qmin,
        qmax=qmax,
    )
    scale = refit_scale(problem, codes[None]).scale[..., :1]
    objective = problem.with_scale(scale).objective(codes[None])[0]
    place = int(objective.argmin())
    return scale[0, place, 0], float(objective[place])


@pytest.mark.parametrize(
    ("bits", "scale", "expected"),
    [
        (3, 0.157791723791, 0.001741524365),
        (2, 0.266191001589, 0.013048390273),
        (4, 0.094035469850, 0.000480796845),
    ],
)
def test_best_refitted_scale_of_nearest_codes(bits, scale, expected):
    top = (1 << (bits - 1)) - 1
    found, objective = nearest_then_refit(W, G, -top - 1, top)
    assert found.item() == pytest.approx(scale, abs=1e-11)
    assert objective == pytest.approx(expected, abs=EXACT)


def test_refit_is_the_minimum_over_the_scale():
    p = problem(3)
    codes = p.nearest()
    scale = refit_scale(p, codes).scale
    assert torch.equal(scale, scale[..., :1].expand(1, 1, 8))
    best = p.with_scale(scale).objective(codes).item()
    for factor in (0.999, 1.001):
        assert p.with_scale(scale * factor).objective(codes).item() > best
    assert best <= p.objective(codes).item()


def test_refit_keeps_the_scale_of_a_row_of_zeros():
    p = problem(3)
    kept = refit_scale(p, torch.zeros(1, 1, 8, dtype=torch.float64)).scale
    assert torch.equal(kept, p.scale.expand(1, 1, 8))


def test_refit_of_pieces_is_a_minimum_in_each_and_never_worse():
    p = problem(3)
    codes = p.nearest()
    before = p.objective(codes).item()
    for _ in range(200):
        p = p.with_scale(refit_scale(p, codes, size=4).scale)
        after = p.objective(codes).item()
        assert after <= before + 1e-15
        before = after
    assert torch.equal(p.scale[..., :4], p.scale[..., :1].expand(1, 1, 4))
    assert not torch.equal(p.scale[..., :1], p.scale[..., 4:5])
    for piece in (slice(0, 4), slice(4, 8)):
        for factor in (0.999, 1.001):
            moved = p.scale.clone()
            moved[..., piece] *= factor
            assert p.with_scale(moved).objective(codes).item() > before


def test_asymmetric_target_turns_two_streams_into_one_quadratic():
    reference = X + 0.05 * torch.cos(2 + 5 * T + 3 * J)
    cross = reference.T @ X / 16
    target = torch.linalg.solve(G, (W @ cross))  # W C G^-1, G symmetric
    values = problem(3).scale.item() * torch.tensor([-1, 1, -1, 0, 1, -1, 2, -3.0]).double()
    sampled = (X @ values - reference @ W).square().mean()
    constant = (X @ target - reference @ W).square().mean()
    quadratic = (values - target) @ G @ (values - target) + constant
    assert sampled.item() == pytest.approx(0.009281672120588, abs=1e-14)
    assert quadratic.item() == pytest.approx(sampled.item(), rel=1e-10)


def test_solvers_are_scale_invariant_and_rows_are_independent():
    p = problem(3)
    two = Quadratic(
        torch.cat([p.target, 0.5 * p.target.flip(2)], 1),
        p.gram,
        torch.cat([p.scale, 0.5 * p.scale], 1),
        torch.zeros(1, 2, 1, dtype=torch.float64),
        p.qmin,
        p.qmax,
    )
    first, _ = optq(p)
    both, _ = optq(two)
    assert torch.equal(both[:, :1], first)
    halved = Quadratic(0.5 * p.target, p.gram, 0.5 * p.scale, p.zero_point, p.qmin, p.qmax)
    assert torch.equal(optq(halved)[0], first)
    assert torch.equal(
        coordinate_descent(halved, halved.nearest(), max_flips=9).codes,
        coordinate_descent(p, p.nearest(), max_flips=9).codes,
    )


def adaround(p, strength, steps=5000):
    """AdaRound as published (2004.10568) on the quadratic: Adam at 1e-2, beta from 20 to 2."""
    floor = torch.floor(p.target / p.scale)
    variable = initial_variable(p.target / p.scale, floor).requires_grad_()
    optimizer, schedule = torch.optim.Adam([variable], lr=1e-2), BetaSchedule(steps)
    for step in range(steps):
        optimizer.zero_grad()
        on = strength if schedule.is_warm(step) else 0.0
        limits, beta = (p.qmin, p.qmax), schedule.at(step)
        soft = SoftRound.apply(variable, floor, p.scale, p.zero_point, limits, on, beta)
        off = soft - p.target
        ((off @ p.gram) * off).sum().backward()
        optimizer.step()
    return hard_steps(variable.detach(), floor).clamp(p.qmin, p.qmax)


@pytest.mark.parametrize(
    ("bits", "strength", "expected"),
    [
        (3, 1e-3, 0.007505311962),
        (3, 1e-1, 0.007505311962),
        (2, 1e-3, 0.269599277367),
        (2, 1e-2, 0.269599277367),  # the gates do not harden, and closing them gives nearest
        (2, 1e-1, 0.069149979048),
    ],
)
def test_adaround_with_the_published_regulariser(bits, strength, expected):
    p = problem(bits)
    assert error(p, adaround(p, strength)) == pytest.approx(expected, abs=EXACT)
