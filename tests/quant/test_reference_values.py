"""Reference values, computed apart with NumPy in float64, that have no test beside their code.

``w_i = Phi^-1((i - 0.5) / 4096)`` for the tensor; groups are rows of a standard normal 4096 x 128.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from qcompile.quant.coordinate_descent import coordinate_descent
from qcompile.quant.level_grid import LevelGrid
from qcompile.quant.levels import NF4, float_levels, largest_exponent, power_levels
from qcompile.quant.optq import optq
from qcompile.quant.scale_search import search_scale
from tests.quant.test_gram_descent import layer_problems, ratio
from tests.quant.test_level_weight import GAUSSIAN, mse

DRAWN = torch.tensor(np.random.default_rng(0).standard_normal((4096, 128)))
UNIFORM = power_levels(4, 1.0)
E2M1 = float_levels("e2m1")


def test_levels_of_nf4():
    """Quantiles as the paper prints them, to six digits."""
    shown = (
        *(-1, -0.69619289, -0.52507304, -0.39491749, -0.28444136, -0.18477344, -0.09104999, 0),
        *(0.07958033, 0.16093017, 0.24611229, 0.33791519, 0.4407098, 0.56261697, 0.72295673, 1),
    )
    assert pytest.approx(shown, abs=1e-6) == NF4


@pytest.mark.parametrize(("bits", "expected"), [(2, 0.80785), (3, 0.1245836)])
def test_the_widest_range_at_two_and_three_bits(bits, expected):
    assert mse(power_levels(bits, 1.0), 1.0) == pytest.approx(expected, rel=1e-5)


SIXTEEN = torch.arange(-8, 8) / 8


@pytest.mark.parametrize(
    ("table", "clip", "expected"),
    [
        (UNIFORM, 1.0, 0.0228803955),
        (UNIFORM, 0.675, 0.0127659563),
        (SIXTEEN, 1.0, 0.0175641534),
        (SIXTEEN, 0.74, 0.0117465536),
        (power_levels(3, 1.0), 0.53, 0.0466983),
        (power_levels(2, 1.0), 0.335, 0.1899594272),
    ],
    ids=["15", "15 clipped", "16", "16 clipped", "7 clipped", "3 clipped"],
)
def test_uniform_grids_as_wide_as_the_tensor_and_clipped_at_the_best_place(table, clip, expected):
    """What a grid of other levels has to beat is the clipped one with as many levels."""
    assert mse(table, clip) == pytest.approx(expected, rel=2e-7)
    if clip < 1:
        assert expected < min(mse(table, clip * 0.97), mse(table, clip * 1.03))


@pytest.mark.parametrize(
    ("bits", "exponent", "expected"),
    [(4, 0.80, 0.92), (3, 0.86, 0.965), (2, 1.0, 1.0)],
)
def test_a_power_grid_gains_little_over_a_clipped_uniform_one(bits, exponent, expected):
    clips = [step / 200 for step in range(50, 201)]
    uniform = min(mse(power_levels(bits, 1.0), clip) for clip in clips)
    power = min(mse(power_levels(bits, exponent), clip) for clip in clips)
    # the reference rounds in the powered domain, which loses up to 3% of this
    assert expected - 0.03 < power / uniform <= expected + 0.005


@pytest.mark.parametrize(
    ("bits", "exponent", "clip", "expected"),
    [
        (4, 0.70, 1.0, 0.0172703069),
        (4, 0.50, 1.0, 0.0199440150),
        (4, 0.80, 0.70, 0.0116964796),
        (3, 0.71, 1.0, 0.0936669),
        (3, 0.86, 0.54, 0.0450514),
    ],
)
def test_power_grids_rounded_in_the_powered_domain_and_to_the_nearest_level(
    bits, exponent, clip, expected
):
    """The reference rounds ``|w|^a``; the nearest level, as here, is a little better."""
    levels = power_levels(bits, exponent).double()
    last = (1 << (bits - 1)) - 1
    scale = GAUSSIAN.max() * clip
    powered = (GAUSSIAN.abs() / scale).clamp(max=1) ** exponent * last
    codes = (GAUSSIAN.sign() * powered.round()).long() + last
    rounded = float((levels[codes] * scale - GAUSSIAN).square().mean())
    assert rounded == pytest.approx(expected, rel=2e-6)
    assert 0.9 * expected < mse(levels, clip) < expected


def error_of_groups(table, size, *, power_of_two=False):
    """Mean squared error with one scale for each group, from its largest value."""
    x = DRAWN.reshape(-1, size)
    levels = table.double()
    largest = x.abs().amax(1, keepdim=True)
    scale = largest / levels.abs().max()
    if power_of_two:
        scale = 2.0 ** (largest.log2().floor() - largest_exponent("e2m1"))
    grid = LevelGrid(levels, scale)
    return float((grid.dequantize(grid.quantize(x)) - x).square().mean())


@pytest.mark.parametrize(
    ("table", "power_of_two", "expected"),
    [
        (UNIFORM, False, (0.00728, 0.00945, 0.01163, 0.01386)),
        (torch.tensor(NF4), False, (0.00654, 0.00763, 0.00847, 0.00917)),
        (E2M1, False, (0.00888, 0.01026, 0.01121, 0.01192)),
        (E2M1, True, (0.01390, 0.01327, 0.01284, 0.01275)),
    ],
    ids=["15 steps", "nf4", "e2m1", "mxfp4"],
)
def test_groups_of_sixteen_to_one_hundred_and_twenty_eight(table, power_of_two, expected):
    sizes = (16, 32, 64, 128)
    found = [error_of_groups(table, size, power_of_two=power_of_two) for size in sizes]
    assert found == pytest.approx(expected, abs=5.01e-6)


@pytest.mark.parametrize(
    ("size", "exponent", "expected"),
    [(16, 0.84, 0.00666), (32, 0.82, 0.00845), (64, 0.80, 0.01011), (128, 0.76, 0.01168)],
)
def test_groups_on_the_best_power_grid(size, exponent, expected):
    found = error_of_groups(power_levels(4, exponent), size)
    assert found == pytest.approx(expected, abs=5.01e-6)


LAYERS = {
    2: (0.275, 0.220, 0.176, 0.202),
    3: (0.251, 0.206, 0.184, 0.234),
    4: (0.208, 0.173, 0.163, 0.202),
}
"""OPTQ in natural order, by activation, the same and descent, nearest rounding and descent."""


@pytest.mark.parametrize("bits", LAYERS)
def test_the_discrete_solvers_on_layers_of_correlated_inputs(bits):
    """Relative to nearest rounding, mean of three seeds."""
    p = layer_problems(3, bits)
    natural, _ = optq(p, order="natural", damping=0.01)
    ordered, _ = optq(p, order="activation", damping=0.01)
    found = [
        natural,
        ordered,
        coordinate_descent(p, ordered, max_flips=256).codes,
        coordinate_descent(p, p.nearest(), max_flips=256).codes,
    ]
    assert [ratio(p, codes) for codes in found] == pytest.approx(LAYERS[bits], abs=5.5e-4)


WITH_SEARCHED_SCALE = {2: (0.531, 0.232), 3: (0.540, 0.220), 4: (0.501, 0.189)}
"""Nearest rounding, and OPTQ by activation, on the scale with which the former costs least."""


@pytest.mark.parametrize("bits", WITH_SEARCHED_SCALE)
def test_scales_searched_for_the_output_on_layers_of_correlated_inputs(bits):
    """Relative to nearest rounding on the scale of least weight error, mean of three seeds."""
    p = layer_problems(3, bits)
    largest = p.target.abs().amax(2, keepdim=True) / ((1 << (bits - 1)) - 0.5)
    tried = [p.with_scale(largest * factor / 100) for factor in range(20, 101, 2)]
    best = torch.stack([one.objective(one.nearest()) for one in tried]).argmin(0)
    scales = torch.stack([one.scale for one in tried])
    chosen = p.with_scale(scales.gather(0, best[None, ..., None])[0])
    start = p.objective(p.nearest()).sum(1)
    codes = [chosen.nearest(), optq(chosen, order="activation", damping=0.01)[0]]
    found = [float((chosen.objective(one).sum(1) / start).mean()) for one in codes]
    assert found == pytest.approx(WITH_SEARCHED_SCALE[bits], abs=5.5e-4)
    ours = p.with_scale(search_scale(p))
    assert float((ours.objective(ours.nearest()).sum(1) / start).mean()) < 1.01 * found[0]


def test_a_row_does_not_see_the_others_and_columns_may_change_places():
    """Of nearest rounding with descent; the order of columns is OPTQ's own choice."""
    p = layer_problems(1, 3)
    whole = coordinate_descent(p, p.nearest(), max_flips=256).codes
    half = replace(p, target=p.target[:, ::2], scale=p.scale[:, ::2])
    assert torch.equal(coordinate_descent(half, half.nearest(), max_flips=256).codes, whole[:, ::2])
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    turned = replace(p, target=p.target[:, :, order], gram=p.gram[:, order][:, :, order])
    found = coordinate_descent(turned, turned.nearest(), max_flips=256).codes
    assert torch.equal(found, whole[:, :, order])
