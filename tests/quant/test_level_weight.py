"""Grids of levels: exact reference values, nearest by brute force, and the form on disk."""

from statistics import NormalDist

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qcompile.policy.number_format import (
    FORMATS,
    CodebookFormat,
    IntFormat,
    LogFormat,
    NormalFormat,
    PowerFormat,
    SumFormat,
)
from qcompile.policy.scheme import Clip, MinMax, PerGroup, QuantSlot
from qcompile.policy.size import weight_bytes, weight_layout
from qcompile.policy.slot_rules import initial
from qcompile.quant.level_grid import LevelGrid
from qcompile.quant.level_search import fitted_exponent, fitted_levels, fitted_scale
from qcompile.quant.level_weight import levels_from_tensors, quantize_levels
from qcompile.quant.levels import float_levels, levels, power_levels

ELEMENTS = ("e4m3", "e5m2", "e2m3", "e3m2", "e2m1")
GAUSSIAN = torch.tensor(
    [[NormalDist().inv_cdf((i - 0.5) / 4096) for i in range(1, 4097)]], dtype=torch.float64
)
TABLES = {
    "int3": levels(IntFormat(3, signed=True)),
    "nf4": levels(NormalFormat()),
    "power4": power_levels(4, 0.7),
    **{element: float_levels(element) for element in ELEMENTS},
}
WEIGHTS = [
    *(
        number
        for number in FORMATS
        if not isinstance(number, IntFormat | LogFormat)
        and (number.bits in (2, 4) or not isinstance(number, PowerFormat | CodebookFormat))
    ),
    PowerFormat(3, 0.5),
    SumFormat((IntFormat(2, signed=True), IntFormat(2, signed=True))),
    SumFormat((NormalFormat(), CodebookFormat(2), PowerFormat(2, 1.0))),
]


def mse(table, clip):
    known = table[~table.isnan()].double()
    scale = GAUSSIAN.max() * clip / known.abs().max()
    grid = LevelGrid(table.double(), scale)
    return float((grid.dequantize(grid.quantize(GAUSSIAN)) - GAUSSIAN).square().mean())


@pytest.mark.parametrize(
    ("name", "clip", "expected"),
    [
        ("nf4", 1.0, 0.0115066070),
        ("nf4", 0.78, 0.0098063692),
        ("e2m1", 1.0, 0.0137153134),
        ("e2m1", 0.795, 0.0125963261),
    ],
)
def test_error_on_the_gaussian_reference_is_the_known_one(name, clip, expected):
    assert mse(TABLES[name], clip) == pytest.approx(expected, abs=2e-9)


@pytest.mark.parametrize(
    ("count", "expected"), [(16, 0.0094115569), (8, 0.0343995030), (4, 0.1172816239)]
)
def test_codebook_of_the_gaussian_is_that_of_lloyd_and_max(count, expected):
    widest = GAUSSIAN.abs().max().reshape(1, 1)
    table = fitted_levels(GAUSSIAN, widest, count)
    assert mse(table, float(table.double().abs().max())) == pytest.approx(expected, rel=5e-6)


@pytest.mark.parametrize(
    ("x", "expected"),
    [(0.25, 0), (0.75, 1), (1.25, 1), (1.75, 2), (2.5, 2), (3.5, 4), (5.0, 4), (5.01, 6), (7, 6)],
)
def test_a_tie_goes_to_the_even_code(x, expected):
    grid = LevelGrid(float_levels("e2m1"), torch.ones(1))
    both = grid.dequantize(grid.quantize(torch.tensor([x, -x])))
    assert both.tolist() == [expected, -expected]


@pytest.mark.parametrize(
    ("element", "largest", "least"),
    [
        ("e4m3", 448, 2**-9),
        ("e5m2", 57344, 2**-16),
        ("e2m3", 7.5, 0.125),
        ("e3m2", 28, 0.0625),
        ("e2m1", 6, 0.5),
    ],
)
def test_small_floats_have_the_range_of_their_standard(element, largest, least):
    values = float_levels(element)
    values = values[~values.isnan()]
    assert (float(values.max()), float(values[values > 0].min())) == (largest, least)
    assert -float(values.min()) == largest


@pytest.mark.parametrize(
    ("element", "dtype"), [("e4m3", torch.float8_e4m3fn), ("e5m2", torch.float8_e5m2)]
)
def test_codes_of_eight_bit_floats_are_their_bit_patterns(element, dtype):
    patterns = torch.arange(256, dtype=torch.uint8).view(dtype).float()
    expected = torch.where(patterns.isinf(), torch.nan, patterns)
    torch.testing.assert_close(float_levels(element), expected, rtol=0, atol=0, equal_nan=True)


@given(
    name=st.sampled_from(sorted(TABLES)),
    numbers=st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=40),
    scale=st.floats(2**-10, 2**10, width=32),
)
def test_the_nearest_level_is_chosen_and_stays(name, numbers, scale):
    grid = LevelGrid(TABLES[name].double(), torch.tensor([scale], dtype=torch.float64))
    x = torch.tensor(numbers, dtype=torch.float64)
    codes = grid.quantize(x)
    found = grid.dequantize(codes)
    known = grid.levels[~grid.levels.isnan()] * scale
    least = (x[:, None] - known).abs().min(dim=1).values
    torch.testing.assert_close((x - found).abs(), least, rtol=1e-12, atol=1e-12 * scale)
    torch.testing.assert_close(grid.dequantize(grid.quantize(found)), found, rtol=0, atol=0)
    order = x.argsort()
    assert bool((found[order].diff() >= 0).all())


def test_scale_search_is_no_worse_than_any_step_of_four_percent():
    rows = torch.randn(3, 200, generator=torch.Generator().manual_seed(3))
    table = TABLES["nf4"]
    observer = initial("weight", NormalFormat()).observer
    found = fitted_scale(rows, table, observer)

    def loss(scale):
        grid = LevelGrid(table, scale)
        return ((grid.dequantize(grid.quantize(rows)) - rows).abs() ** 2.4).sum(dim=1)

    widest = rows.abs().amax(dim=1, keepdim=True)
    for percent in range(100, 20, -4):
        assert bool((loss(found) <= loss(widest * percent / 100) * (1 + 1e-5)).all())
    assert torch.equal(fitted_scale(rows, table, MinMax()), widest)
    assert torch.equal(fitted_scale(rows, table, Clip(share=0.5)), widest / 2)
    assert fitted_scale(torch.zeros(1, 4), table, observer).item() == 1


def test_exponent_search_finds_the_denser_grid_of_a_gaussian_and_none_for_a_uniform():
    observer = initial("weight", PowerFormat(4)).observer
    uniform = torch.linspace(-1, 1, 4001)[None]
    assert fitted_exponent(GAUSSIAN.float(), 4, observer) == pytest.approx(0.8, abs=0.1)
    assert fitted_exponent(uniform, 4, observer) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("number", WEIGHTS, ids=str)
@pytest.mark.parametrize("output_axis", [0, 1])
def test_a_weight_comes_back_from_disk_as_it_was_planned(number, output_axis):
    generator = torch.Generator().manual_seed(7)
    weight = torch.randn(32, 32, 2, 1, generator=generator) * 0.1
    weight[3] = 0
    spec = initial("weight", number)
    made = quantize_levels(weight, spec, output_axis)
    tensors = made.tensors("fc.weight")
    layout = {part.name("fc.weight"): part for part in weight_layout(spec, made.shape, output_axis)}
    assert {
        name: (str(t.dtype).removeprefix("torch."), tuple(t.shape)) for name, t in tensors.items()
    } == {name: (part.dtype, part.shape) for name, part in layout.items()}
    assert made.nbytes == weight_bytes(spec, made.shape, output_axis)
    read = levels_from_tensors(tensors, "fc.weight", spec, made.shape, output_axis)
    back = read.dequantize(torch.float32)
    assert torch.equal(back, made.dequantize(torch.float32))
    relative = (back - weight).square().sum() / weight.square().sum()
    assert float(relative) < 8 * 4.0 ** -min(number.bits, 5)
    assert torch.equal(quantize_levels(weight, spec, output_axis).terms[0]["codes"],
                       made.terms[0]["codes"])  # fmt: skip


@pytest.mark.parametrize("number", ["mxfp8", "mxfp4", "nvfp4"])
def test_block_scales_follow_the_largest_value(number):
    found = next(one for one in FORMATS if str(one) == number)
    weight = torch.zeros(1, 2 * found.block)
    weight[0, 0], weight[0, -1] = 5.0, -0.3
    made = quantize_levels(weight, initial("weight", found), 0)
    scale = made.terms[0]["scale"]
    if number != "nvfp4":
        power = 8 if number == "mxfp8" else 2
        assert scale.tolist() == [[127 + 2 - power, 127 - 2 - power]]
    else:
        whole = 5.0 / (448 * 6)
        assert made.terms[0]["tensor_scale"].item() == pytest.approx(whole)
        expected = torch.tensor([[448.0, 0.3 / 6 / whole]]).to(torch.float8_e4m3fn)
        assert torch.equal(scale, expected.view(torch.uint8))


def test_each_term_of_a_sum_lowers_the_error():
    weight = torch.randn(8, 64, generator=torch.Generator().manual_seed(1))
    two = IntFormat(2, signed=True)
    one, both = (
        quantize_levels(weight, QuantSlot(number, True, PerGroup(32)), 0).dequantize(torch.float32)
        for number in (two, SumFormat((two, two)))
    )
    assert (both - weight).square().sum() < (one - weight).square().sum() / 2


@pytest.mark.parametrize("number", WEIGHTS, ids=str)
def test_a_tensor_of_zeros_stays_zero_in_every_format(number):
    made = quantize_levels(torch.zeros(2, 64), initial("weight", number), 0)
    assert made.dequantize(torch.float32).eq(0).all()


def test_a_codebook_of_one_number_is_that_number():
    weight = torch.full((2, 8), -0.25)
    made = quantize_levels(weight, initial("weight", CodebookFormat(2)), 0)
    assert torch.equal(made.dequantize(torch.float32), weight)
