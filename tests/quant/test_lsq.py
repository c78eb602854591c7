"""LSQ step gradient and QDrop mixing against reference values and invariants."""

import pytest
import torch

from qcompile.quant.level_grid import level_table
from qcompile.quant.lsq import LearnedLevels, LearnedStep, drop_mask, gradient_scale

V = torch.tensor([-1.3, -0.2, 0.04, 0.37, 0.9, 2.2], dtype=torch.float64)
ZERO = torch.tensor(0.0, dtype=torch.float64)


def step(x, scale, mask=None, factor=1.0):
    return LearnedStep.apply(x, scale, ZERO, (-4, 3), mask, factor)


def test_gradient_of_the_scale_element_by_element():
    expected = [-4, -1 / 3, -0.1333333, -0.2333333, 3, 3]
    for element, slope in zip(V, expected, strict=True):
        scale = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
        step(element[None], scale).sum().backward()
        assert scale.grad.item() == pytest.approx(slope, abs=1e-6)


def test_gradient_scale():
    assert gradient_scale(6, 3) == pytest.approx(0.2357022604, abs=1e-10)
    scale = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    step(V, scale, factor=gradient_scale(6, 3)).sum().backward()
    assert scale.grad.item() == pytest.approx(
        gradient_scale(6, 3) * (-4 - 1 / 3 - 0.4 / 3 - 0.7 / 3 + 3 + 3), abs=1e-9
    )


def test_gradient_of_the_input_is_zero_outside_the_range():
    x = V.clone().requires_grad_()
    step(x, torch.tensor(0.3, dtype=torch.float64)).sum().backward()
    # 0.9 / 0.3 is the last code: the edge belongs to the outside, as in equation 3
    assert x.grad.tolist() == [0, 1, 1, 1, 0, 0]


def test_drop_probability_one_quantizes_all_and_zero_none():
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor(0.3, dtype=torch.float64)
    assert drop_mask(V, 1.0, generator) is None
    none = drop_mask(V, 0.0, generator)
    assert torch.equal(step(V, scale, none), V)


def test_dropped_elements_keep_their_gradient_and_give_the_scale_none():
    scale = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    x = V.clone().requires_grad_()
    step(x, scale, torch.zeros(6, dtype=torch.bool)).sum().backward()
    assert x.grad.tolist() == [1.0] * 6
    assert scale.grad.item() == 0


def test_expectation_is_the_mix_of_quantized_and_float():
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor(0.3, dtype=torch.float64)
    x = V.repeat(20000, 1)
    mixed = step(x, scale, drop_mask(x, 0.5, generator)).mean(0)
    expected = 0.5 * step(V, scale) + 0.5 * V
    # standard error of the mean of 20,000 draws: at most 0.5 * |x_hat - x| / sqrt(20000) < 0.005
    assert (mixed - expected).abs().max() < 0.02


@pytest.mark.parametrize("keep", [1.0, 0.5])
def test_levels_that_are_the_integers_learn_as_the_integers_do(keep):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(500, generator=generator, dtype=torch.float64)
    mask = drop_mask(x, keep, generator)
    table = level_table(torch.arange(-4, 4, dtype=torch.float64))
    found = []
    for function, grid in ((LearnedStep, (ZERO, (-4, 3))), (LearnedLevels, table)):
        one = x.clone().requires_grad_()
        scale = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
        made = function.apply(one, scale, *grid, mask, 0.1)
        made.square().sum().backward()
        found.append((made.detach(), one.grad, scale.grad))
    for ours, theirs in zip(*found, strict=True):
        assert torch.equal(ours, theirs)


def test_levels_do_not_hide_what_is_no_number():
    table = level_table(torch.arange(-4, 4, dtype=torch.float64))
    x = torch.tensor([torch.nan, 0.3], dtype=torch.float64)
    found = LearnedLevels.apply(x, torch.tensor(0.3, dtype=torch.float64), *table, None, 1.0)
    assert found[0].isnan()
    assert found[1] == 0.3
