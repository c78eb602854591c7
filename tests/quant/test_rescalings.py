"""The laws by which channels are scaled, against their formulas."""

import pytest
import torch

from qcompile.policy.number_format import IntFormat
from qcompile.policy.scheme import PerChannel, QuantSlot
from qcompile.quant.rescalings.awq import awq
from qcompile.quant.rescalings.channels import Channels, Rescaled, Situation, Weight
from qcompile.quant.rescalings.equalize import equalize
from qcompile.quant.rescalings.ln_reparam import ln_reparam
from qcompile.quant.rescalings.registry import RESCALINGS, rescaling
from qcompile.quant.rescalings.smoothquant import smoothquant
from qcompile.quant.rescalings.tally import Tally

INT4 = QuantSlot(IntFormat(4, signed=True), symmetric=True, granularity=PerChannel())


def values(rows=400, channels=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    spread = torch.logspace(-1.5, 1.5, channels)
    return torch.randn(rows, channels, generator=generator) * spread + spread.flip(0)


def seen(x, *weights, made=None, takes_shift=True):
    tally = Tally(1, x.shape[1])
    tally.add(x, -1)
    readers = tuple(Weight(weight.double(), 1, INT4, 0) for weight in weights)
    return Situation(tally.channels(), made, readers, takes_shift)


def weights(out=5, channels=6, seed=1):
    return torch.randn(out, channels, generator=torch.Generator().manual_seed(seed))


def test_smoothquant_is_equation_4_over_all_readers():
    x, a, b = values(), weights(), weights(seed=2)
    largest = torch.cat([a, b]).abs().amax(0).double()
    wanted = x.abs().amax(0).double() ** 0.7 / largest**0.3
    torch.testing.assert_close(smoothquant(seen(x, a, b), 0.7).scale, wanted)


def test_equalized_layers_have_equal_ranges_in_each_channel():
    made, read = weights().abs().amax(0).double(), weights(seed=3)
    scale = equalize(seen(values(), read, made=made)).scale
    torch.testing.assert_close(made / scale, read.abs().amax(0).double() * scale)


def test_ln_reparam_gives_all_channels_one_range():
    x = values(rows=1001)
    change = ln_reparam(seen(x, weights()), 1.0)
    new = x.double() / change.scale - change.shift
    low, high = new.kthvalue(2, 0).values, new.kthvalue(1000, 0).values  # the range without tails
    torch.testing.assert_close(high, high[:1].expand(6))
    torch.testing.assert_close(low, -high)
    assert change.scale.mean() == pytest.approx(1)


def test_ln_reparam_without_a_bias_makes_the_widths_equal():
    x = values(rows=1001)
    change = ln_reparam(seen(x, weights(), takes_shift=False), 1.0)
    assert change.shift is None
    new = x.double() / change.scale
    width = new.kthvalue(1000, 0).values - new.kthvalue(2, 0).values
    torch.testing.assert_close(width, width[:1].expand(6))


def test_ln_reparam_goes_part_of_the_way():
    x = values(rows=1001)
    whole, half = (ln_reparam(seen(x, weights()), alpha) for alpha in (1.0, 0.5))
    torch.testing.assert_close(half.scale, whole.scale.sqrt())
    new = x.double() / half.scale - half.shift
    low, high = new.kthvalue(2, 0).values, new.kthvalue(1000, 0).values
    torch.testing.assert_close(low, -high)


def error(x, weight, scale):
    """Of the layer's outputs, its weights rounded to nearest over their whole range."""
    scaled = weight.double() * scale
    row = scaled.float()
    largest = row.abs().amax(1, keepdim=True)
    step = largest / torch.where((row == -largest).any(1, keepdim=True), 8, 7)
    step = torch.maximum(step, row.amax(1, keepdim=True) / 7)
    codes = (row / step).round().clamp(-8, 7)
    off = (codes * step).double() - scaled
    return float(((x.double() / scale) @ off.T).square().sum())


def test_awq_takes_the_exponent_of_least_error():
    x, weight = values(rows=64), weights(out=16)
    situation = seen(x, weight)
    scale = awq(situation, 20).scale
    mean = x.double().abs().mean(0)
    ratios = (scale.log() - scale.log().mean()) / (mean.log() - mean.log().mean())
    exponent = float(ratios.mean())
    torch.testing.assert_close(ratios, ratios[:1].expand(6))
    assert float(scale.max() * scale.min()) == pytest.approx(1)
    tried = [mean ** (step / 20) for step in range(20)]
    errors = [error(x, weight, one / (one.max() * one.min()).sqrt()) for one in tried]
    assert exponent == pytest.approx(errors.index(min(errors)) / 20)
    assert min(errors) < errors[0]


def test_awq_with_the_exponent_zero_alone_leaves_all_as_it_is():
    found = awq(seen(values(rows=64), weights(out=16)), 1)
    assert torch.equal(found.scale, torch.ones(6).double())


def test_awq_leaves_a_value_alone_whose_channels_are_alike():
    x = torch.ones(32, 6)
    torch.testing.assert_close(awq(seen(x, weights()), 20).scale, torch.ones(6).double())


@pytest.mark.parametrize("row", RESCALINGS, ids=lambda row: row.name)
def test_dead_channels_keep_a_finite_positive_factor(row):
    x, weight = values(), weights()
    x[:, 2] = 0
    weight[:, 4] = 0
    situation = seen(x, weight, made=x.abs().amax(0).double())
    scale = row.of(situation, {"alpha": 0.5, "grid": 5}).scale
    assert torch.isfinite(scale).all()
    assert (scale > 0).all()


def test_figures_of_batches_are_those_of_all():
    x = values(rows=600)
    tally = Tally(3, 6)
    for part in x.view(3, 200, 6):
        tally.add(part.T.reshape(1, 6, 200), 1)
    found = tally.channels()
    torch.testing.assert_close(found.peak, x.abs().amax(0).double())
    torch.testing.assert_close(found.mean, x.double().abs().mean(0))
    assert len(found.rows) <= 514
    assert (found.low >= x.amin(0)).all()
    assert (found.high <= x.amax(0)).all()


def test_figures_follow_a_change():
    x = values()
    scale = torch.linspace(0.5, 2, 6).double()
    shift = torch.linspace(-1, 1, 6).double()
    before = seen(x).channels
    plain = seen((x.double() / scale).float()).channels
    after = before.after(Rescaled(scale))
    for name in ("peak", "mean", "low", "high", "rows"):
        torch.testing.assert_close(
            getattr(after, name), getattr(plain, name), rtol=1e-5, atol=1e-6, msg=name
        )
    moved = before.after(Rescaled(scale, shift))
    torch.testing.assert_close(moved.rows, ((x.double() / scale) - shift).float())
    assert isinstance(moved, Channels)


def test_names_are_found():
    assert rescaling("awq").name == "awq"
