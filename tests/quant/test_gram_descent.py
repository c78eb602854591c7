"""Learning on a layer's quadratic form: reference values, and what it must never do."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from qcompile.methods.axes import Optimizer
from qcompile.methods.presets import preset
from qcompile.methods.tuning import Tuning
from qcompile.quant.coordinate_descent import coordinate_descent
from qcompile.quant.gram_descent import gram_descent
from qcompile.quant.quadratic import Quadratic
from qcompile.quant.variables.registry import VARIABLES
from tests.quant.test_layer_solver import HYBRID, fitted, layer_of, true_error, w
from tests.quant.test_tiny_rounding_problem import EXACT, error, problem

NAMES = [name for name, _ in VARIABLES]
GRAM = Tuning(preset="x", solvers=("gram",), steps=300)
SIGNROUND = replace(
    GRAM, variable="additive", optimizer=Optimizer("sign_sgd"), schedule="linear", steps=200
)


OPTIMA = {2: (0.069149979048, 0.069149979048), 3: (0.007505311962, 0.006967223767)}
"""By bits, over two neighbours each and over all codes: ``test_tiny_rounding_problem``."""


@pytest.mark.parametrize("bits", [2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_the_tiny_problem_is_solved_no_worse_than_nearest_and_no_better_than_can_be(name, bits):
    p = problem(bits)
    found = error(p, gram_descent(p, None, replace(GRAM, variable=name, steps=100)))
    assert found <= error(p, p.nearest())
    assert found >= OPTIMA[bits][name not in ("gate", "additive")] - EXACT


def test_signround_reaches_the_best_of_two_neighbours_each():
    p = problem(3)
    assert error(p, gram_descent(p, None, SIGNROUND)) == pytest.approx(0.007505311962, abs=EXACT)


def test_gates_reach_the_best_of_two_neighbours_each():
    """With a rate of 1e-2 in 5,000 steps the reference does too; and it fails at two bits."""
    p = problem(3)
    assert error(p, gram_descent(p, None, GRAM)) == pytest.approx(0.007505311962, abs=EXACT)
    p = problem(2)
    assert error(p, gram_descent(p, None, GRAM)) == pytest.approx(0.069149979048, abs=EXACT)


def layer_problems(seeds, bits):
    """As groups of one problem, which costs as many steps as one of them."""
    each = [layer_problem(seed, bits) for seed in range(seeds)]
    joined = (torch.cat([getattr(p, part) for p in each]) for part in ("target", "gram", "scale"))
    return Quadratic(*joined, each[0].zero_point, each[0].qmin, each[0].qmax)


def layer_problem(seed, bits):
    """64 rows of 64 correlated inputs, scales of least weight error; NumPy, exactly repeatable."""
    random = np.random.default_rng(seed)
    mix = random.standard_normal((64, 64)) * np.arange(1, 65) ** -0.7
    x = random.standard_normal((256, 64)) @ mix.T + 0.3 * random.standard_normal((1, 64))
    weight = torch.tensor(random.standard_normal((64, 64)) / 8)
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    largest = weight.abs().amax(1, keepdim=True) / ((1 << (bits - 1)) - 0.5)
    scales = torch.stack([largest * factor / 100 for factor in range(20, 101, 2)])
    errors = ((weight / scales).round().clamp(low, high) * scales - weight).square().sum(2)
    scale = scales[errors.argmin(0), torch.arange(64)]
    gram = torch.tensor(x.T @ x / 256)
    zero = torch.zeros(1, 1, 1, dtype=torch.float64)
    return Quadratic(weight[None], gram[None], scale[None], zero, low, high)


def ratio(p, codes):
    """Error relative to nearest rounding, mean over the groups."""
    return float((p.objective(codes).sum(1) / p.objective(p.nearest()).sum(1)).mean())


@pytest.mark.parametrize(("bits", "reference"), [(2, 0.390), (3, 0.523), (4, 0.483)])
def test_signround_is_better_than_the_reference_which_keeps_one_step_for_all_rows(bits, reference):
    """The reference keeps the best of 200 steps for the layer, here each row keeps its own."""
    p = layer_problems(3, bits)
    assert 0.5 * reference < ratio(p, gram_descent(p, None, SIGNROUND)) < 0.7 * reference


@pytest.mark.parametrize(
    ("bits", "gates", "descended"), [(2, 0.173, 0.130), (3, 0.209, 0.150), (4, 0.198, 0.145)]
)
def test_gates_and_descent_are_as_good_as_the_reference(bits, gates, descended):
    """`AdaRound, Adam 3e-2, 1,000 steps`, and with descent after it; each row keeps its best."""
    tuning = replace(GRAM, optimizer=Optimizer("adam", lr=3e-2), steps=1000)
    p = layer_problems(2, bits)
    codes = gram_descent(p, None, tuning)
    polished = coordinate_descent(p, codes, max_flips=256).codes
    assert 0.8 * gates < ratio(p, codes) <= gates
    assert ratio(p, polished) == pytest.approx(descended, abs=0.01)


def test_codes_to_start_from_are_never_made_worse():
    p = layer_problem(0, 3)
    start = coordinate_descent(p, p.nearest(), max_flips=256).codes
    for name in NAMES:
        found = gram_descent(p, start, replace(GRAM, variable=name, steps=40))
        assert bool((p.objective(found) <= p.objective(start)).all())


def test_without_rounding_the_codes_stay():
    p = layer_problem(0, 3)
    start = coordinate_descent(p, p.nearest(), max_flips=9).codes
    still = replace(GRAM, learn=("scale",))
    assert torch.equal(gram_descent(p, start, still), start)
    assert torch.equal(gram_descent(p, None, still), p.nearest())


def test_rows_are_learned_each_for_itself():
    """But for the unit of the loss, which sign descent does not see."""
    p = layer_problem(0, 2)
    short = replace(SIGNROUND, steps=40)
    whole = gram_descent(p, None, short)
    half = replace(p, target=p.target[:, :32], scale=p.scale[:, :32])
    assert torch.equal(whole[:, :32], gram_descent(half, None, short))


def test_scaling_the_weight_and_the_grid_scales_the_result():
    p = layer_problem(1, 2)
    other = replace(p, target=4 * p.target, scale=4 * p.scale)
    for tuning in (replace(SIGNROUND, steps=40), replace(GRAM, steps=40)):
        assert torch.equal(gram_descent(p, None, tuning), gram_descent(other, None, tuning))


def test_gram_and_descent_solve_a_layer_in_the_list_of_solvers():
    layer = layer_of(w(2))
    one = replace(HYBRID, damping=(0.01,), scale_factors=(1.0,), refits=0, steps=100)
    optq, rtn = replace(one, solvers=("optq",)), replace(one, solvers=("rtn",))
    gram = replace(one, solvers=("gram", "cd"))
    errors = [true_error(layer, fitted(layer, tuning)) for tuning in (gram, optq, rtn)]
    assert errors[0] < errors[1] < errors[2]
    polished = replace(one, solvers=("optq", "gram"))
    assert true_error(layer, fitted(layer, polished)) != errors[1]


def test_hybrid_may_take_gram_in_place_of_optq():
    assert preset("hybrid") is not None
    layer = layer_of(w(3), seed=3)
    tuning = replace(HYBRID, solvers=("gram", "cd"), steps=100)
    found = fitted(layer, tuning)
    assert found.damping in (0.0, 0.01, 0.1, 1.0)
    assert true_error(layer, found) < true_error(
        layer, fitted(layer, replace(HYBRID, solvers=("rtn",)))
    )
