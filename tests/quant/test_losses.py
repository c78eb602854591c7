"""Every loss against its formula, written out anew in float64."""

import math
from typing import get_args

import pytest
import torch

from qcompile.methods.axes import LossName, LossTerm
from qcompile.quant.losses.pair import Pair
from qcompile.quant.losses.registry import LOSSES, loss


def pair(weights=None):
    generator = torch.Generator().manual_seed(0)
    found, wanted = torch.randn(2, 5, 3, 4, generator=generator, dtype=torch.float64)
    return Pair(found.requires_grad_(), wanted, weights)


def value(term, of=None):
    return float(loss(term.name).of(pair() if of is None else of, term).detach())


def differences(of):
    return (of.found - of.wanted).detach()


def test_every_name_of_the_axis_has_one_loss():
    assert sorted(row.name for row in LOSSES) == sorted(get_args(LossName))


@pytest.mark.parametrize("row", LOSSES, ids=lambda row: row.name)
def test_a_loss_is_zero_without_a_difference_and_has_a_gradient_with_one(row):
    of = pair(torch.rand(5, 3, 4, dtype=torch.float64) + 0.1)
    same = Pair(of.wanted, of.wanted, of.sensitivity)
    assert float(row.of(same, LossTerm(row.name))) == pytest.approx(0, abs=1e-12)
    row.of(of, LossTerm(row.name)).backward()
    assert bool(torch.isfinite(of.found.grad).all())
    assert float(of.found.grad.abs().max()) > 0


@pytest.mark.parametrize("row", LOSSES, ids=lambda row: row.name)
def test_a_loss_does_not_depend_on_how_often_the_samples_stand_in_the_batch(row):
    weights = torch.rand(5, 3, 4, dtype=torch.float64)
    once = pair(weights)
    twice = Pair(*(torch.cat([t, t]) for t in (once.found, once.wanted, weights)))
    term = LossTerm(row.name, share=0.1)
    assert value(term, twice) == pytest.approx(value(term, once), rel=1e-12)


@pytest.mark.parametrize("exponent", [1.0, 1.7, 2.0, 2.4])
def test_mse_is_the_mean_power(exponent):
    expected = differences(pair()).abs().pow(exponent).mean()
    assert value(LossTerm("mse", p=exponent)) == pytest.approx(float(expected), rel=1e-12)


def test_mse_is_of_the_second_power_unless_said_and_l1_of_the_first():
    assert value(LossTerm("mse")) == value(LossTerm("mse", p=2.0))
    assert value(LossTerm("l1")) == pytest.approx(value(LossTerm("mse", p=1.0)), rel=1e-12)


def test_trimmed_leaves_out_the_largest():
    squares = differences(pair()).square().flatten().sort().values
    expected = squares[:-6].mean()
    assert value(LossTerm("trimmed", share=0.1)) == pytest.approx(float(expected), rel=1e-12)
    assert value(LossTerm("trimmed", share=0.0)) == value(LossTerm("mse"))


def test_huber_bends_at_one_standard_deviation():
    d = differences(pair()).flatten()
    bend = d.std(correction=0)
    each = [x**2 / 2 if abs(x) <= bend else bend * (abs(x) - bend / 2) for x in d]
    assert value(LossTerm("huber")) == pytest.approx(float(sum(each) / len(each)), rel=1e-12)


def test_cosine_sees_the_angle_of_each_sample_alone():
    of = pair()
    longer = Pair(of.found * torch.tensor([1, 2, 3, 4, 5.0]).view(5, 1, 1), of.wanted)
    assert value(LossTerm("cosine"), longer) == pytest.approx(value(LossTerm("cosine")), rel=1e-12)
    a, b = of.found[0].detach().flatten(), of.wanted[0].flatten()
    angle = math.acos(float(a @ b / (a.norm() * b.norm())))
    one = Pair(of.found[:1], of.wanted[:1])
    assert value(LossTerm("cosine"), one) == pytest.approx(1 - math.cos(angle), rel=1e-12)


def test_fisher_with_a_constant_gradient_is_the_mean_square_up_to_a_factor():
    """Also its gradient: what is learned is the same."""
    of, plain = pair(torch.full((5, 3, 4), 0.3, dtype=torch.float64)), pair()
    weighted, square = (
        loss("fisher").of(of, LossTerm("fisher")),
        loss("mse").of(plain, LossTerm("mse")),
    )
    assert weighted.item() == pytest.approx(0.09 * square.item(), rel=1e-12)
    weighted.backward()
    square.backward()
    assert torch.allclose(of.found.grad, 0.09 * plain.found.grad, rtol=1e-12, atol=0)


def test_second_order_losses_are_their_formulas():
    weights = torch.randn(5, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    of = pair(weights)
    d = differences(of)
    expected = {
        "fisher": (weights * d).square().mean(),
        "fisher_full": sum((weights[n] * d[n]).abs().sum() ** 2 for n in range(5)) / 5,
        "perturbation": (weights.abs() * d.square()).mean(),
    }
    for name, wanted in expected.items():
        assert value(LossTerm(name), of) == pytest.approx(float(wanted), rel=1e-12)


@pytest.mark.parametrize("name", ["fisher", "fisher_full", "perturbation"])
def test_weights_are_needed_where_they_weigh(name):
    with pytest.raises(ValueError, match="no weights"):
        value(LossTerm(name))


@pytest.mark.parametrize(
    ("term", "temperature"),
    [
        (LossTerm("prediction", temperature=2.0), 2.0),
        (LossTerm("prediction"), 4.0),
        (LossTerm("kl"), 1.0),
    ],
    ids=str,
)
def test_prediction_is_the_divergence_from_the_float_decision(term, temperature):
    of = pair()
    p = torch.softmax(of.wanted / temperature, -1)
    q = torch.softmax(of.found.detach() / temperature, -1)
    expected = (p * (p.log() - q.log())).sum(-1).mean()
    assert value(term) == pytest.approx(float(expected), rel=1e-10)
