import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qcompile.policy.number_format import FloatFormat, LogFormat, PowerFormat, named
from qcompile.policy.scheme import MinMax, Mse, PerChannel, PerGroup, PerTensor, QuantSlot
from qcompile.policy.size import activation_bytes
from qcompile.quant.activation_quantizer import fit, from_tensors
from qcompile.quant.fake_quantize import fake_quantize, fake_quantize_e4m3
from qcompile.quant.level_activation import (
    fake_quantize_blocks,
    fake_quantize_levels,
    fake_quantize_levels_dynamic,
)
from qcompile.quant.level_grid import LevelGrid, level_table
from qcompile.quant.level_weight import quantize_levels
from qcompile.quant.levels import float_levels, largest_exponent, levels, log_levels

FORMATS = (
    *(PowerFormat(2, 0.7), PowerFormat(4, 0.5), PowerFormat(8, 1.3), LogFormat(2), LogFormat(4)),
    *(LogFormat(8), LogFormat(4, root=True), FloatFormat("e4m3"), FloatFormat("e5m2")),
    *(FloatFormat("e2m3"), FloatFormat("e3m2")),
)
numbers = st.floats(-600, 600, width=32)


def at(x, number, scale):
    return fake_quantize_levels(x, torch.tensor([scale]), *level_table(levels(number)), None)


@given(st.sampled_from(FORMATS), st.lists(numbers, min_size=1), st.sampled_from([0.01, 1.0, 7.5]))
def test_every_number_goes_to_the_nearest_level_as_a_weight_does(number, given, scale):
    x = torch.tensor(given)
    found = at(x, number, scale)
    grid = LevelGrid(levels(number), torch.tensor([scale]))
    assert torch.equal(found, grid.dequantize(grid.quantize(x)))
    known = levels(number)[~levels(number).isnan()].double() * torch.tensor([scale]).double()
    least = (x.double()[:, None] - known).abs().amin(1)
    assert ((found.double() - x.double()).abs() <= least + 1e-6 * x.double().abs() + 1e-30).all()


@pytest.mark.parametrize("number", FORMATS, ids=str)
def test_ties_go_to_the_even_code_as_those_of_weights_do(number):
    known = levels(number)[~levels(number).isnan()].sort().values
    ties = (known[1:] + known[:-1]) / 2
    grid = LevelGrid(levels(number), torch.ones(1))
    assert torch.equal(at(ties, number, 1.0), grid.dequantize(grid.quantize(ties)))


@pytest.mark.parametrize("number", FORMATS, ids=str)
def test_what_is_no_number_stays_and_what_is_infinite_is_cut(number):
    top = float(level_table(levels(number))[0][-1])
    least = float(level_table(levels(number))[0][0])
    found = at(torch.tensor([torch.nan, torch.inf, -torch.inf]), number, 2.0)
    assert found[0].isnan()
    assert found[1:].tolist() == [2 * top, 2 * least]


def test_levels_of_logarithms():
    assert log_levels(2, root=False).tolist() == [0, 0.25, 0.5, 1]
    assert log_levels(3, root=True).tolist() == pytest.approx(
        [0, *(2 ** (-k / 2) for k in range(6, -1, -1))]
    )
    assert len(log_levels(8, root=False)) == 256


@pytest.mark.parametrize(
    ("number", "ratio"), [(LogFormat(4), 2.0), (LogFormat(4, root=True), 2**0.5)]
)
def test_logarithms_keep_the_relative_error_down_to_half_the_least_level(number, ratio):
    least = float(levels(number)[1])
    x = torch.logspace(-9, 0, 20_000, dtype=torch.float64).float()
    found = at(x, number, 1.0)
    above = x >= least
    assert float(((found - x).abs() / x)[above].max()) <= (ratio - 1) / (ratio + 1) + 1e-6
    assert (found[x < least / 2] == 0).all()
    assert (found[(x > least / 2) & ~above] == least).all()
    assert (at(-x, number, 1.0) == 0).all()


@pytest.mark.parametrize("per_token", [True, False])
@pytest.mark.parametrize("number", FORMATS, ids=str)
def test_a_run_time_range_covers_its_numbers_exactly(number, per_token):
    x = torch.randn(2, 3, 16).abs() * torch.tensor([0.01, 1.0, 100.0])[:, None]
    x[0, 0] = 0
    signed = not isinstance(number, LogFormat)
    x = x if not signed else x * torch.randn(x.shape).sign()
    values, edges = level_table(levels(number))
    found = fake_quantize_levels_dynamic(x, values, edges, signed, per_token)
    end = x.abs().amax(-1, keepdim=True) if per_token else x.abs().amax()
    assert torch.allclose(
        found.abs().amax(-1, keepdim=True) if per_token else found.abs().amax(), end
    )
    for token, own in zip(x.flatten(0, 1), found.flatten(0, 1), strict=True):
        if per_token:
            alone = fake_quantize_levels_dynamic(token, values, edges, signed, False)
            assert torch.equal(own, alone)
    assert fake_quantize_levels_dynamic(x[:0], values, edges, signed, per_token).shape == (0, 3, 16)


@pytest.mark.parametrize("per_token", [True, False])
def test_e4m3_by_table_is_e4m3_by_cast(per_token):
    x = torch.randn(200, 64) * torch.logspace(-6, 2, 200)[:, None]
    table = level_table(levels(FloatFormat("e4m3")))
    found = fake_quantize_levels_dynamic(x, *table, True, per_token)
    assert torch.equal(found, fake_quantize_e4m3(x, per_token))


def test_the_exponent_1_is_the_uniform_grid():
    x = torch.randn(1000)
    scale = torch.tensor([7 * 0.25])  # of the largest level, against that of a step
    uniform = fake_quantize(x, torch.tensor([0.25]), None, -7, 7, None)
    found = fake_quantize_levels(x, scale, *level_table(levels(PowerFormat(4, 1.0))), None)
    assert torch.allclose(found, uniform, atol=1e-6)


@pytest.mark.parametrize("name", ["mxfp8", "mxfp6", "mxfp4", "nvfp4"])
def test_blocks_of_an_activation_are_those_of_a_weight(name):
    number = named(name)
    x = torch.randn(6, 96) * torch.logspace(-4, 3, 6)[:, None]
    x[1, :32] = 0
    spec = QuantSlot(number, True, PerGroup(number.block), MinMax())
    wanted = quantize_levels(x, spec, 0).dequantize(torch.float32)
    table = level_table(levels(number))
    assert torch.equal(fake_quantize_blocks(x, *table, name, -1), wanted)
    assert torch.equal(fake_quantize_blocks(x.t(), *table, name, 0), wanted.t())
    images = x.view(6, 1, 96, 1).expand(6, 2, 96, 3)
    found = fake_quantize_blocks(images, *table, name, -2)
    assert torch.equal(found, wanted.view(6, 1, 96, 1).expand(6, 2, 96, 3))
    shorter = torch.nn.functional.pad(x[:, :70], (0, 26))
    padded = fake_quantize_blocks(shorter, *table, name, 1)[:, :70]
    assert torch.equal(fake_quantize_blocks(x[:, :70], *table, name, 1), padded)
    assert fake_quantize_blocks(x[:0], *table, name, 1).shape == (0, 96)


def test_what_is_no_number_stays_so_in_a_block():
    x = torch.ones(64)
    x[3] = torch.nan
    table = level_table(levels(named("mxfp8")))
    found = fake_quantize_blocks(x, *table, "mxfp8", -1)
    assert found[:32].isnan().all()
    assert torch.equal(found[32:], x[32:])


@pytest.mark.parametrize("name", ["mxfp8", "mxfp4", "nvfp4"])
def test_what_is_infinite_is_not_hidden_in_a_block(name):
    x = torch.full((64,), 100.0)
    x[3] = torch.inf
    found = fake_quantize_blocks(x, *level_table(levels(named(name))), name, -1)
    assert found[: named(name).block].isnan().all()


BATCHES = [torch.randn(3, 4, 5).exp(), torch.randn(2, 4, 5).exp() * 3]


@pytest.mark.parametrize("granularity", [PerTensor(), PerChannel(1), PerChannel(-2)], ids=str)
@pytest.mark.parametrize("number", [*FORMATS, PowerFormat(4)], ids=str)
def test_tensors_and_back(number, granularity):
    spec = QuantSlot(number, True, granularity)
    quantizer = fit(BATCHES, spec)
    tensors = quantizer.tensors("fc:act")
    names = {"fc:act.scale"} | ({"fc:act.exponent"} if number == PowerFormat(4) else set())
    assert tensors.keys() == names
    assert sum(t.nbytes for t in tensors.values()) == activation_bytes(spec, 4)
    back = from_tensors(tensors, "fc:act", spec)
    assert torch.equal(back(BATCHES[0]), quantizer(BATCHES[0]))


@pytest.mark.parametrize("name", ["power4", "log2_4", "logsqrt2_4", "fp6_e2m3"])
def test_the_least_error_is_below_that_of_the_whole_range(name):
    x = [torch.randn(4000, generator=torch.Generator().manual_seed(0)) ** 3]
    x = [x[0].abs()] if "log" in name else x
    errors = {}
    for observer in (MinMax(), Mse(2.0)):
        quantizer = fit(x, QuantSlot(named(name), True, PerTensor(), observer))
        errors[observer.kind] = float((quantizer(x[0]) - x[0]).square().mean())
    assert errors["mse"] < errors["minmax"]


def test_a_searched_exponent_is_that_of_the_numbers():
    """Of cubes of evenly spread numbers: a third would space levels as the numbers are."""
    x = torch.linspace(-1, 1, 40_001) ** 3
    errors = {}
    for exponent in (None, 1.0, 0.3):
        quantizer = fit([x], QuantSlot(PowerFormat(4, exponent), True, PerTensor(), Mse(2.0)))
        errors[exponent] = float((quantizer(x) - x).square().mean())
    found = float(fit([x], QuantSlot(PowerFormat(4), True, PerTensor(), Mse(2.0))).exponent)
    assert 0.3 < found < 1
    assert errors[None] <= min(errors[1.0], errors[0.3])


@pytest.mark.parametrize("offset", [0, 1, 5])
def test_the_exponent_is_searched_over_all_channels(offset):
    """One channel in eight is even, the others have wide tails, whichever it is that is even."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1000, 384, generator=generator) ** 3
    x[:, offset::8] = torch.rand(1000, 48, generator=generator) * 2 - 1
    found = float(fit([x], QuantSlot(PowerFormat(4), True, PerTensor(), Mse(2.0))).exponent)
    assert found < 0.9


def test_a_signed_number_at_a_log_format_is_cut_and_does_not_widen_the_range():
    x = torch.tensor([-100.0, 0.5, 1.0])
    quantizer = fit([x], QuantSlot(LogFormat(4), True, PerTensor(), MinMax()))
    assert quantizer.scale.tolist() == [1.0]
    assert quantizer(x).tolist() == [0, 0.5, 1.0]


@pytest.mark.parametrize(
    ("element", "exponent"), [("e4m3", 8), ("e5m2", 15), ("e2m3", 2), ("e3m2", 4), ("e2m1", 2)]
)
def test_exponents_of_the_largest_small_floats(element, exponent):
    values = float_levels(element)
    assert largest_exponent(element) == exponent
    assert int(values[~values.isnan()].max().log2().floor()) == exponent
