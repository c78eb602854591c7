"""The AdaRound gate against reference values (2004.10568) and finite differences."""

import pytest
import torch

from qcompile.quant.rounding_gate import (
    BetaSchedule,
    SoftRound,
    gate,
    gate_inverse,
    hard_steps,
    initial_variable,
    regulariser,
    soft_share,
    variable_towards,
)


@pytest.mark.parametrize(
    ("fraction", "variable"),
    [
        (0.0, -2.397895272798),
        (0.1, -1.609437912434),
        (0.25, -0.887303195001),
        (0.5, 0.0),
        (0.9, 1.609437912434),
    ],
)
def test_inverse_of_the_gate(fraction, variable):
    found = gate_inverse(torch.tensor(fraction, dtype=torch.float64)).item()
    assert found == pytest.approx(variable, abs=1e-12)


def test_gate_values():
    v = torch.tensor([-3, -2, -1, 0, 1, 2, 3], dtype=torch.float64)
    expected = [0, 0.043043506425, 0.222729705644, 0.5, 0.777270294356, 0.956956493573, 1]
    assert gate(v).tolist() == pytest.approx(expected, abs=2e-12)  # the table has 12 digits


def test_gate_saturates_exactly_at_log_eleven():
    edge = torch.tensor(11.0, dtype=torch.float64).log()
    outside = torch.tensor([-edge - 1e-9, edge + 1e-9])
    assert gate(outside).tolist() == [0.0, 1.0]
    assert 0 < gate(edge - 1e-6).item() < 1


@pytest.mark.parametrize(
    ("step", "beta"), [(0, 20), (4000, 20), (8000, 15.5), (12000, 11), (16000, 6.5), (20000, 2)]
)
def test_beta_schedule(step, beta):
    assert BetaSchedule(20000).at(step) == pytest.approx(beta, abs=1e-12)


@pytest.mark.parametrize(
    ("beta", "opened", "expected"),
    [
        (20, 0.1, 0.988470784954),
        (20, 0.25, 0.999999046326),
        (11, 0.1, 0.91410065408),
        (2, 0.1, 0.36),
        (2, 0.25, 0.75),
        (2, 0.4, 0.96),
    ],
)
def test_regulariser(beta, opened, expected):
    variable = gate_inverse(torch.tensor(opened, dtype=torch.float64))
    assert regulariser(variable, beta).item() == pytest.approx(expected, abs=1e-11)


def _layer(dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(6, 10, generator=generator, dtype=dtype)
    scale = weight.abs().amax(1, keepdim=True) / 7
    return weight, scale, torch.zeros(6, 1, dtype=dtype)


def test_soft_weight_at_the_start_is_the_weight():
    weight, scale, zero = _layer()
    start = initial_variable(weight / scale, torch.floor(weight / scale))
    floor = torch.floor(weight / scale)
    soft = SoftRound.apply(start, floor, scale, zero, (-8, 7), 0.0, 2.0)
    fraction = weight / scale - floor
    inner = (fraction > 0.01) & (fraction < 0.99)
    assert (soft - weight)[inner].abs().max() <= 1e-6
    assert ((soft - weight).abs() <= 0.0101 * scale).all()


def test_hard_equals_soft_when_every_gate_is_closed():
    weight, scale, zero = _layer()
    variable = torch.where(
        torch.rand(6, 10, generator=torch.Generator().manual_seed(1)) > 0.5, 4.0, -4.0
    ).double()
    soft = SoftRound.apply(
        variable, torch.floor(weight / scale), scale, zero, (-100, 100), 0.0, 2.0
    )
    assert torch.equal(soft, scale * hard_steps(variable, torch.floor(weight / scale)))
    assert soft_share(variable) == 0


@pytest.mark.parametrize(("strength", "beta"), [(0.0, 2.0), (0.3, 2.0), (0.7, 6.5), (1.0, 20.0)])
def test_gradient_by_hand_is_the_gradient_by_autograd(strength, beta):
    weight, scale, zero = _layer()
    floor = torch.floor(weight / scale)
    pull = torch.randn(6, 10, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    start = initial_variable(weight / scale, torch.floor(weight / scale))
    by_hand = start.clone().requires_grad_()
    (SoftRound.apply(by_hand, floor, scale, zero, (-6, 5), strength, beta) * pull).sum().backward()
    by_autograd = start.clone().requires_grad_()
    soft = scale * ((floor + gate(by_autograd)).clamp(-6, 5))
    ((soft * pull).sum() + strength * regulariser(by_autograd, beta).sum()).backward()
    assert torch.allclose(by_hand.grad, by_autograd.grad, atol=1e-12, rtol=1e-9)


def test_start_from_codes_leans_towards_them():
    weight, scale, _ = _layer()
    floor = torch.floor(weight / scale)
    steps = floor + (torch.arange(60).reshape(6, 10) % 2)
    variable = variable_towards(steps, floor)
    assert torch.equal(hard_steps(variable, torch.floor(weight / scale)), steps)
    assert gate(variable).unique().tolist() == pytest.approx([0.1, 0.9])
