from dataclasses import replace
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompile.analysis.accumulator import accumulator, act_steps, attained, rows_of, steps, terms_of
from qcompile.policy.scheme import IntFormat, PerChannel, PerGroup, PerTensor, QuantSlot
from qcompile.quant.packing import pack
from qcompile.quant.quantized_weight import QuantizedWeight


def slot(bits, signed, symmetric, granularity=None):
    return QuantSlot(
        format=IntFormat(bits=bits, signed=signed),
        symmetric=symmetric,
        granularity=granularity or PerChannel(),
    )


slots = st.builds(
    slot,
    st.integers(2, 4),
    st.booleans(),
    st.booleans(),
    st.sampled_from([PerChannel(), PerGroup(size=2)]),
)


def weight_of(spec, shape, output_axis, generator):
    """A weight of random codes and zero points, packed as on disk."""
    codes = torch.randint(0, 1 << spec.bits, shape, generator=generator)
    rows = shape[output_axis]
    groups = 1
    if isinstance(spec.granularity, PerGroup):
        groups = codes.numel() // rows // spec.granularity.size
    scale_shape = (
        (rows, groups) if groups > 1 or isinstance(spec.granularity, PerGroup) else (rows,)
    )
    zero = torch.randint(0, 1 << spec.bits, scale_shape, generator=generator).to(torch.uint8)
    return codes, QuantizedWeight(
        packed=pack(codes.to(torch.int16), spec.bits),
        scale=torch.ones(scale_shape),
        zero_point=None if spec.symmetric else zero,
        spec=spec,
        shape=shape,
        output_axis=output_axis,
    )


def sums(rows, spec, x):
    """Every integer sum that a kernel forms for the input ``x`` ``[row]``, one a group."""
    size = spec.granularity.size if isinstance(spec.granularity, PerGroup) else rows.shape[1]
    return (rows * x).reshape(rows.shape[0], -1, size).sum(-1)


@settings(max_examples=60, deadline=None)
@given(slots, st.integers(2, 4), st.booleans(), st.integers(0, 2**31))
def test_bound_of_the_codes_is_attained_by_an_adversarial_input(spec, act_bits, shared, seed):
    generator = torch.Generator().manual_seed(seed)
    act = slot(act_bits, True, shared, PerTensor())
    _, weight = weight_of(spec, (3, 4), 0, generator)
    rows = rows_of(weight)
    width = (1 << act_bits) - 1
    zero = None if shared else torch.randint(0, width + 1, (1,), generator=generator)
    least, most = act_steps(act, zero)
    found = attained("fc", weight, act, zero)
    highest = [sums(rows, spec, torch.where(row > 0, most, least)) for row in rows]
    lowest = [sums(rows, spec, torch.where(row > 0, least, most)) for row in rows]
    assert max(int(s.max()) for s in highest) == found.high
    assert min(int(s.min()) for s in lowest) == found.low


@settings(max_examples=15, deadline=None)
@given(slots, st.booleans(), st.integers(0, 2**31))
def test_no_input_at_all_leaves_the_bound(spec, symmetric, seed):
    generator = torch.Generator().manual_seed(seed)
    act = slot(2, False, symmetric, PerTensor())
    _, weight = weight_of(spec, (2, 4), 0, generator)
    zero = None if symmetric else torch.tensor([1], dtype=torch.uint8)
    least, most = act_steps(act, zero)
    found = attained("fc", weight, act, zero)
    rows = rows_of(weight)
    reached = [sums(rows, spec, torch.tensor(x)) for x in product(range(least, most + 1), repeat=4)]
    values = torch.stack(reached)
    assert (int(values.min()), int(values.max())) == (found.low, found.high)


@settings(max_examples=40, deadline=None)
@given(slots, slots, st.integers(1, 3), st.integers(0, 2**31))
def test_bound_of_the_formats_holds_for_all_codes_and_some_codes_attain_it(w, a, out, seed):
    generator = torch.Generator().manual_seed(seed)
    act = replace(a, granularity=PerTensor())
    _, weight = weight_of(w, (out, 4), 0, generator)
    terms = terms_of(w, (out, 4), 0)
    ends = [x * y for x in steps(w) for y in steps(act)]
    low, high = terms * min(ends), terms * max(ends)
    width = act.format.qmax - act.format.qmin
    zero = None if act.symmetric else torch.randint(0, width + 1, (1,), generator=generator)
    found = attained("fc", weight, act, zero)
    assert low <= found.low <= found.high <= high
    extreme = next((x, y) for x in steps(w) for y in steps(act) if x * y == max(ends))
    assert terms * extreme[0] * extreme[1] == high


def test_steps_do_not_depend_on_the_layout_of_a_weight():
    generator = torch.Generator().manual_seed(0)
    codes, weight = weight_of(slot(4, True, True), (5, 3), 1, generator)
    assert torch.equal(rows_of(weight), (codes - 8).T)


@pytest.mark.parametrize(
    ("low", "high", "bits"),
    [
        (0, 0, 1),
        (-1, 0, 1),
        (0, 1, 2),
        (-2, 1, 2),
        (-3, 1, 3),
        (-(2**31), 2**31 - 1, 32),
        (0, 2**31, 33),
    ],
)
def test_bits_are_those_of_the_narrowest_integer(low, high, bits):
    assert accumulator("fc", 1, low, high).bits == bits


def test_sums_of_a_group_are_shorter_than_those_of_a_row():
    assert terms_of(slot(8, True, True), (10, 64, 3, 3), 0) == 576
    assert terms_of(slot(8, True, True), (64, 10, 3, 3), 1) == 576
    assert terms_of(slot(8, True, True, PerGroup(size=32)), (10, 576), 0) == 32
