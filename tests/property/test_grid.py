"""Grids and packed weights on whatever hypothesis thinks of."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompile.policy.scheme import IntFormat, MinMax, Mse, PerChannel, QuantSlot
from qcompile.quant.grid import Grid, check, covering
from qcompile.quant.packing import pack, unpack
from qcompile.quant.quantized_weight import quantize_weight
from qcompile.quant.range_search import weight_range

numbers = st.floats(-(2.0**100), 2.0**100, width=32)
formats = st.builds(IntFormat, bits=st.integers(2, 8), signed=st.booleans())


@st.composite
def grids(draw):
    number = draw(formats)
    scale = draw(st.floats(2.0**-126, 2.0**100, width=32))
    zero_point = draw(st.integers(number.qmin, number.qmax))
    shape = torch.tensor([scale])
    return Grid(shape, torch.full_like(shape, zero_point), number.qmin, number.qmax)


@given(grids())
def test_every_code_is_its_own_nearest(grid):
    check(grid)
    codes = torch.arange(grid.qmin, grid.qmax + 1, dtype=torch.int16)
    assert torch.equal(grid.quantize(grid.dequantize(codes)), codes)


@given(grids(), st.lists(numbers, min_size=1))
def test_fake_quantize_is_idempotent_and_equals_the_two_steps(grid, values):
    x = torch.tensor(values)
    once = grid.fake_quantize(x)
    assert torch.equal(once, grid.dequantize(grid.quantize(x)))
    assert torch.equal(grid.fake_quantize(once), once)


@given(st.lists(numbers, min_size=1), formats, st.booleans())
def test_a_covering_grid_errs_by_at_most_half_a_step(values, number, symmetric):
    x = torch.tensor(values)
    if symmetric and not number.signed:
        x = x.abs()
    low, high = x.aminmax()
    grid = covering(low, high, number.qmin, number.qmax, symmetric=symmetric)
    check(grid)
    distance = (grid.fake_quantize(x).double() - x.double()).abs()
    # float32 rounds x / scale (up to 255) and the product: 2^-15 of a step at the most
    assert bool((distance <= grid.scale.double() * (0.5 + 2.0**-14)).all())


@given(
    st.integers(2, 8).flatmap(
        lambda b: st.tuples(st.just(b), st.lists(st.integers(0, (1 << b) - 1)))
    )
)
def test_packing_is_exact(case):
    bits, codes = case
    packed = pack(torch.tensor(codes, dtype=torch.int16), bits)
    assert unpack(packed, bits, len(codes)).tolist() == codes


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.lists(numbers, min_size=4, max_size=4), min_size=1, max_size=4),
    formats,
    st.booleans(),
    st.sampled_from([MinMax(), Mse()]),
)
def test_a_quantized_weight_quantizes_to_itself(rows, number, symmetric, observer):
    spec = QuantSlot(
        format=number, symmetric=symmetric, granularity=PerChannel(), observer=observer
    )
    weight = torch.tensor(rows)
    grid = weight_range(weight, spec, 0)
    once = quantize_weight(weight, spec, 0, grid)
    twice = quantize_weight(once.dequantize(torch.float32), spec, 0, grid)
    assert torch.equal(once.packed, twice.packed)
