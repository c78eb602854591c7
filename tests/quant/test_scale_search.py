"""The scale that a Gram matrix asks for: brute force, and reference values."""

from dataclasses import replace

import pytest
import torch

from qcompile.quant.scale_search import COARSE, FINE, search_scale
from tests.quant.test_gram_descent import layer_problem, layer_problems
from tests.quant.test_layer_solver import CHANNEL, HYBRID, fitted, layer_of, true_error, w
from tests.quant.test_tiny_rounding_problem import EXACT, problem

REFERENCE = {2: 0.531, 3: 0.540, 4: 0.501}
"""Relative to the scale of least weight error, for scales of 0.20, 0.22, .. 1.00 of the largest."""


def nearest_error(p, scale):
    moved = p.with_scale(scale)
    return moved.objective(moved.nearest())


def on_the_reference_grid(p, bits):
    largest = p.target.abs().amax(2, keepdim=True) / ((1 << (bits - 1)) - 0.5)
    errors = [nearest_error(p, largest * factor / 100) for factor in range(20, 101, 2)]
    return torch.stack(errors).amin(0)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_the_reference_search_and_ours_which_is_finer(bits):
    p = layer_problems(3, bits)
    plain = p.objective(p.nearest()).sum(1)
    reference = (on_the_reference_grid(p, bits).sum(1) / plain).mean()
    assert float(reference) == pytest.approx(REFERENCE[bits], abs=5e-4)
    found = p.with_scale(search_scale(p))
    ours = (found.objective(found.nearest()).sum(1) / plain).mean()
    assert 0.9 * REFERENCE[bits] < float(ours) < REFERENCE[bits]


def test_one_scale_a_row_is_the_best_that_was_looked_at():
    p = layer_problem(0, 3)
    found = search_scale(p)
    assert torch.equal(found, found[..., :1].expand_as(found))
    looked = torch.stack([nearest_error(p, p.scale * factor) for factor in COARSE])
    best = torch.tensor(COARSE, dtype=torch.float64)[looked.argmin(0)][..., None]
    around = [nearest_error(p, p.scale * (best + step)) for step in (0.0, *FINE)]
    least = torch.minimum(torch.stack(around).amin(0), p.objective(p.nearest()))
    assert torch.allclose(nearest_error(p, found), least, rtol=1e-9)


def test_the_tiny_problem_has_its_reference_scale():
    """Nearest rounding, scales of every hundredth of the full range."""
    p = problem(3)
    found = search_scale(p)
    assert float(found[0, 0, 0] / p.scale) == pytest.approx(0.74)
    assert nearest_error(p, found).item() == pytest.approx(0.001741643510, abs=EXACT)


@pytest.mark.parametrize("size", [4, 16, 64])
def test_groups_of_a_row_are_searched_each_given_the_others(size):
    p = layer_problem(1, 2)
    found = search_scale(p, size)
    grouped = found.unflatten(2, (-1, size))
    assert torch.equal(grouped, grouped[..., :1].expand_as(grouped))
    assert bool((nearest_error(p, found) <= p.objective(p.nearest())).all())
    whole = nearest_error(p, search_scale(p)).sum()
    assert float(nearest_error(p, found).sum()) <= (1 + 1e-12) * float(whole)


def test_a_zero_point_stays_and_a_scaled_problem_has_the_scaled_result():
    p = layer_problem(2, 3)
    shifted = replace(p, zero_point=p.zero_point + 2, qmin=p.qmin + 2, qmax=p.qmax + 2)
    assert torch.equal(search_scale(shifted), search_scale(p))
    other = replace(p, target=4 * p.target, scale=4 * p.scale)
    assert torch.equal(search_scale(other), 4 * search_scale(p))


def test_scale_and_bias_of_a_rounded_layer_each_pay_on_new_samples():
    layer = layer_of(w(2, CHANNEL, symmetric=True))
    plain = replace(
        HYBRID, solvers=("rtn",), target="symmetric", damping=(0.01,), scale_factors=(1.0,)
    )
    nearest = replace(plain, learn=("rounding",))
    scaled = replace(plain, learn=("rounding", "scale"))
    errors = [
        true_error(layer, fitted(layer, nearest, refits_bias=False)),
        true_error(layer, fitted(layer, scaled, refits_bias=False)),
        true_error(layer, fitted(layer, scaled, refits_bias=True)),
    ]
    assert errors[0] > errors[1] > errors[2]
    found = fitted(layer, scaled, refits_bias=False)
    codes = (torch.round(layer.rows() / found.scale) + found.zero_point).clamp(-2, 1)
    assert torch.equal(found.codes.double(), codes)
