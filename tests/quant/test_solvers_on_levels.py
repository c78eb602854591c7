"""The layer's solvers on levels: to the bit where these are integers, else by brute force."""

from dataclasses import replace
from itertools import product

import pytest
import torch

from qcompile.methods.presets import preset
from qcompile.policy.number_format import named
from qcompile.policy.scheme import PerChannel, PerGroup, PerTensor
from qcompile.policy.slot_rules import initial
from qcompile.quant.coordinate_descent import coordinate_descent
from qcompile.quant.geometry import Dense
from qcompile.quant.gram_descent import gram_descent
from qcompile.quant.layer_solver import fit_layer
from qcompile.quant.level_grid import level_table
from qcompile.quant.level_weight import quantize_levels
from qcompile.quant.levels import levels
from qcompile.quant.moments import moments
from qcompile.quant.optq import optq
from qcompile.quant.quadratic import Quadratic, damped
from qcompile.quant.scale_refit import refit_scale
from qcompile.quant.scale_search import search_scale
from qcompile.quant.variables.registry import VARIABLES
from tests.quant.test_gram_descent import GRAM
from tests.quant.test_layer_solver import HYBRID, draw, layer_of, samples, true_error

FORMATS = ("nf4", "power3", "fp6_e2m3", "codebook3", "mxfp4", "nvfp4")
WITHOUT_PARAMETERS = ("nf4", "fp6_e2m3", "fp6_e3m2", "mxfp4")


def pair(k=24, rows=10):
    """One problem on ``int4`` and on levels that are these integers, with an exact scale."""
    x = draw(400, k) @ draw(k, k, seed=1)
    gram = damped((x.T @ x / 400)[None], 0.01).float()
    target, scale = draw(1, rows, k, seed=2).float(), torch.full((1, rows, 1), 0.25)
    zero = torch.zeros(1, rows, 1)
    table = level_table(torch.arange(-8, 8, dtype=torch.float32))
    return (
        Quadratic(target, gram, scale, zero, -8, 7),
        Quadratic(target, gram, scale, zero, 0, 15, table),
    )


@pytest.mark.parametrize(
    "solve",
    [
        lambda p: p.nearest(),
        lambda p: optq(p)[0],
        lambda p: coordinate_descent(p, p.nearest(), max_flips=200).codes,
        lambda p: coordinate_descent(p, optq(p)[0], max_flips=200).codes,
    ],
    ids=["nearest", "optq", "cd", "optq and cd"],
)
def test_codes_on_levels_that_are_the_integers_are_those_of_the_integers(solve):
    uniform, on_levels = pair()
    codes, places = solve(uniform), solve(on_levels)
    assert torch.equal(places - 8, codes)
    assert torch.equal(on_levels.values(places), uniform.values(codes))


def test_scales_on_levels_that_are_the_integers_are_those_of_the_integers():
    uniform, on_levels = pair()
    ours = refit_scale(on_levels, on_levels.nearest(), 6).scale
    assert torch.equal(ours, refit_scale(uniform, uniform.nearest(), 6).scale)
    assert torch.equal(search_scale(on_levels, 6), search_scale(uniform, 6))


@pytest.mark.parametrize("name", [name for name, _ in VARIABLES])
def test_learning_on_levels_that_are_the_integers_is_as_good(name):
    errors = [
        float(p.objective(gram_descent(p, None, replace(GRAM, variable=name, steps=60))).sum())
        for p in pair(k=12, rows=4)
    ]
    assert errors[1] == pytest.approx(errors[0], rel=0.15)


def on(name, k=24, rows=10):
    x = draw(400, k) @ draw(k, k, seed=1)
    gram = damped((x.T @ x / 400)[None], 0.01)
    target = draw(1, rows, k, seed=2)
    table = tuple(part.double() for part in level_table(levels(named(name))))
    scale = target.abs().amax(-1, keepdim=True) / table[0][-1]
    return Quadratic(target, gram, scale, torch.zeros_like(scale), 0, len(table[0]) - 1, table)


@pytest.mark.parametrize("name", WITHOUT_PARAMETERS)
def test_descent_ends_where_no_move_to_a_neighbour_helps(name):
    p = on(name)
    found = coordinate_descent(p, p.nearest(), max_flips=400)
    best = p.objective(found.codes)
    assert (best <= p.objective(p.nearest())).all()
    assert best.sum() < 0.7 * p.objective(p.nearest()).sum()
    assert torch.allclose(found.residual, p.residual(found.codes), atol=1e-9)
    for column, step in product(range(24), (-1, 1)):
        moved = found.codes.clone()
        moved[..., column] = (moved[..., column] + step).clamp(0, p.qmax)
        assert (p.objective(moved) >= best * (1 - 1e-9)).all()


@pytest.mark.parametrize("name", WITHOUT_PARAMETERS)
def test_the_running_loss_of_optq_is_the_objective(name):
    p = on(name)
    codes, loss = optq(p, damping=1e-12)
    assert torch.allclose(loss, p.objective(codes), rtol=1e-6)
    assert float(loss.sum()) < 0.7 * float(p.objective(p.nearest()).sum())


def test_a_tiny_problem_is_solved_nearly_as_well_as_can_be():
    p = on("mxfp4", k=4, rows=3)
    every = torch.cartesian_prod(*[torch.arange(p.qmax + 1)] * 4).double()
    off = p.levels[0][every.long()][:, None] * p.scale[0, :, 0, None] - p.target[0]
    least = ((off @ p.gram[0]) * off).sum(-1).amin(0)
    found = p.objective(coordinate_descent(p, optq(p)[0], max_flips=40).codes)[0]
    assert (found >= least * (1 - 1e-9)).all()
    assert float(found.sum()) < 1.25 * float(least.sum())


def slot(name, granularity=None):
    spec = initial("weight", named(name))
    return spec if granularity is None else replace(spec, granularity=granularity)


def fitted(layer, tuning, seed=5):
    start = quantize_levels(layer.weight, layer.spec, layer.output_axis)
    fit = moments([samples(layer, seed=seed)], Dense())
    held = moments([samples(layer, seed=seed + 10)], Dense())
    refits = "bias" in tuning.learn
    found = fit_layer(layer, tuning, start.grid, fit, held, refits_bias=refits)
    return start, found


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("name", FORMATS)
def test_a_layer_is_better_on_new_samples_than_rounded(name, transposed):
    layer = layer_of(slot(name), transposed=transposed, k=32)
    rounded = preset("rtn_gram")
    plain = replace(rounded, learn=("rounding", "bias"))
    errors = {
        key: true_error(layer, fitted(layer, tuning)[1])
        for key, tuning in {"rtn": plain, "rtn_gram": rounded, "hybrid": HYBRID}.items()
    }
    assert errors["hybrid"] < 0.8 * errors["rtn"]
    assert errors["rtn_gram"] <= errors["rtn"] * (1 + 1e-9)


@pytest.mark.parametrize("granularity", [PerChannel(), PerTensor(), PerGroup(8)], ids=str)
def test_codes_and_scale_stand_for_the_fitted_weight(granularity):
    layer = layer_of(slot("nf4", granularity), k=32)
    start, found = fitted(layer, HYBRID)
    grid = layer.grid_of(found.scale, found.zero_point, found.grid)
    stored = start.with_codes(layer.codes_of(found.codes), grid.scale)
    assert torch.allclose(stored.dequantize(torch.float32), found.weight[0].float(), atol=1e-6)
    assert {name: t.shape for name, t in stored.tensors("w").items()} == {
        name: t.shape for name, t in start.tensors("w").items()
    }


@pytest.mark.parametrize("name", ["mxfp4", "nvfp4"])
def test_scales_of_one_byte_stay_what_they_are(name):
    layer = layer_of(slot(name), k=64)
    start, found = fitted(layer, HYBRID)
    assert torch.equal(
        layer.grid_of(found.scale, found.zero_point, found.grid).scale, start.grid.scale
    )
