"""Products of 16-bit rows by packed codes, against whole numbers and float64."""

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from qcompile.compat.openmp import team
from qcompile.emit.native import multiply, row_codes
from qcompile.emit.native import threads as threads_module
from qcompile.emit.native.assembly import LANES
from qcompile.emit.native.layout import WIDTHS, pack_codes, pack_sides, width_for
from qcompile.emit.native.multiply import packed_linear

pytestmark = pytest.mark.skipif(bool(multiply.missing()), reason=multiply.missing())

ALL = 1 << 62
STEPS = 2 * row_codes.MOST
"""Of a group's largest number: half of one is what a number is rounded by."""


class Case:
    def __init__(self, bits, group, groups, outputs, seed=0, codes=None):
        generator = torch.Generator().manual_seed(seed)
        self.bits, self.group, shape = bits, group, (outputs, groups * group)
        top = 1 << bits
        if codes is None:
            codes = torch.randint(0, top, shape, generator=generator)
        codes = codes.to(torch.uint8)
        zeros = torch.randint(0, top, (outputs, groups), generator=generator).to(torch.uint8)
        scales = torch.rand(outputs, groups, generator=generator) + 0.01
        self.packed = pack_codes(codes, bits), pack_sides(scales), pack_sides(zeros)
        self.bias = torch.randn(outputs, generator=generator)
        around = codes.view(outputs, groups, group).double() - zeros.double()[..., None]
        self.weight = (around * scales.double()[..., None]).view(shape)

    def __call__(self, x, few_rows=ALL):
        return packed_linear(x, self.packed, self.bias, self.bits, few_rows)

    def expected(self, x):
        return x.double() @ self.weight.t() + self.bias

    def bound(self, x):
        """What rounding each number by half a step can do, and float32 sums of groups."""
        largest = x.double().abs().unflatten(-1, (-1, self.group)).amax(-1)
        weights = self.weight.abs().view(*self.weight.shape[:1], -1, self.group).sum(-1)
        sums = (x.double().abs() @ self.weight.abs().t() + self.bias.abs()) * 1e-6
        return largest @ weights.t() / STEPS * 1.001 + sums


@settings(max_examples=60, deadline=None)
@given(
    bits=st.sampled_from(WIDTHS),
    group=st.sampled_from([32, 64, 96, 256]),
    groups=st.integers(1, 4),
    blocks=st.integers(1, 5),
    rows=st.integers(1, 9),
    exponent=st.integers(-24, 20),
    seed=st.integers(0, 1 << 20),
)
def test_the_product_is_wrong_by_the_rounding_of_rows_at_most(
    bits, group, groups, blocks, rows, exponent, seed
):
    case = Case(bits, group, groups, LANES * blocks, seed)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, group * groups, generator=generator) * 10.0**exponent
    x *= 10.0 ** torch.randint(-3, 3, (groups,), generator=generator).repeat_interleave(group)
    assert ((case(x) - case.expected(x)).abs() <= case.bound(x)).all()


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("code", [0, 1])
def test_the_largest_sums_fit(bits, sign, code):
    """All codes at one edge and zero points at the other, all numbers the largest, most inputs."""
    top = (1 << bits) - 1
    case = Case(bits, 256, 2, LANES, codes=torch.full((LANES, 512), top * code))
    case.packed = (*case.packed[:2], torch.full_like(case.packed[2], top * (1 - code)))
    x = torch.full((3, 512), 7.0 * sign)
    scales = case.packed[1].double().sum(1).view(-1)
    exact = 7.0 * sign * 256 * top * (2 * code - 1) * scales + case.bias
    torch.testing.assert_close(case(x).double(), exact.expand(3, -1), rtol=1e-6, atol=0)


def test_codes_of_rows_are_the_nearest_ones():
    x = torch.randn(6, 64, generator=torch.Generator().manual_seed(3))
    high, low = torch.empty(2, 6, 64, dtype=torch.int8).unbind()
    scales, sums = torch.empty(6, 2), torch.empty(6, 2, dtype=torch.int32)
    made = [part.data_ptr() for part in (x, high, low, scales, sums)]
    multiply.code_for(4)[row_codes.SIGNATURE.name](*made, 12, 2)
    groups = x.view(6, 2, 32)
    assert torch.equal(scales, groups.abs().amax(-1) / row_codes.MOST)
    codes = (groups * (1 / scales)[..., None]).round().int()
    assert torch.equal(256 * high.int() + low, codes.view(6, 64))
    assert torch.equal(sums, codes.sum(-1, dtype=torch.int32))
    assert int(codes.abs().amax()) == row_codes.MOST


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_row_has_the_same_bits_whatever_is_beside_it(bits, threads, monkeypatch):
    monkeypatch.setattr(threads_module, "WORTH_A_THREAD", 1)
    monkeypatch.setattr(multiply, "SLICE", 2 * LANES * 128)
    case = Case(bits, 64, 2, 7 * LANES)
    x = torch.randn(11, 128, generator=torch.Generator().manual_seed(1))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone = torch.cat([case(row[None]) for row in x])
        unpacked = case(x, few_rows=0)
        torch.set_num_threads(threads)
        assert torch.equal(case(x), alone)
        assert torch.equal(case(x[:3]), alone[:3])
        assert torch.equal(case(x, few_rows=0), unpacked)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("slice_", [1, 3 * LANES * 128, 1 << 20])
def test_many_rows_get_the_weight_itself(bits, slice_, monkeypatch):
    monkeypatch.setattr(multiply, "SLICE", slice_)
    case = Case(bits, 32, 4, 5 * LANES)
    case.bias.zero_()
    found = case(torch.eye(128), few_rows=0)
    assert torch.equal(found.t(), case.weight.float().bfloat16().float())


def test_unpacked_numbers_between_two_go_to_the_even_one():
    codes = torch.arange(256).repeat(LANES, 1)
    case = Case(8, 256, 1, LANES, codes=codes)
    scales, zeros = torch.full((1, 1, LANES), 3.0), torch.zeros(1, 1, LANES)
    case.packed = case.packed[0], scales, zeros.to(torch.uint8)
    case.bias.zero_()
    exact = codes[0].float() * scales[0, 0, 0]
    whole = exact.view(torch.int32)
    is_tie, is_odd = (whole & 0xFFFF) == 0x8000, (whole & 0x10000) != 0
    assert (is_tie & is_odd).any()
    assert (is_tie & ~is_odd).any()
    expected = exact.bfloat16().float()
    assert torch.equal(case(torch.eye(256), few_rows=0), expected[:, None].expand(-1, LANES))


@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
def test_what_is_not_finite_stays_so_and_in_its_row(value):
    case = Case(4, 32, 4, LANES)
    x = torch.randn(5, 128, generator=torch.Generator().manual_seed(2))
    clean = case(x)
    x[2, 40] = value
    found = case(x)
    assert not found[2].isfinite().any()
    kept = [0, 1, 3, 4]
    assert torch.equal(found[kept], clean[kept])


@pytest.mark.parametrize("size", [0.0, 1e-44, 1e-38, 1e-31])
def test_next_to_nothing_is_nothing(size):
    case = Case(4, 32, 2, LANES)
    assert torch.equal(case(torch.full((1, 64), size)), case.bias[None])


def test_any_shape_and_layout_of_rows_and_bias():
    case = Case(2, 32, 2, LANES)
    x = torch.randn(64, 3, 5, generator=torch.Generator().manual_seed(2)).permute(2, 1, 0)
    expected = case(x.contiguous())
    assert expected.shape == (5, 3, LANES)
    assert torch.equal(case(x), expected)
    assert torch.equal(case(x[0, 0]), expected[0, 0])
    assert case(x[:0]).shape == (0, 3, LANES)
    case.bias = case.bias.repeat_interleave(2)[::2]
    assert torch.equal(case(x), expected)
    case.bias = torch.full((1,), 2.0).expand(LANES)
    assert ((case(x) - case.expected(x)).abs() <= case.bound(x)).all()


WRONG = {
    "size": torch.zeros(3, 32),
    "double": torch.zeros(3, 64).double(),
    "scalar": torch.zeros(()),
    "meta": torch.zeros(3, 64, device="meta"),
    "negative": torch.zeros(3, 64, dtype=torch.complex64).conj().imag,
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("few_rows", [ALL, 0])
def test_memory_that_is_not_there_is_not_read(name, few_rows):
    with pytest.raises(ValueError, match=r"takes plain floats \[\.\.\., 64\] on a CPU, not "):
        Case(4, 32, 2, LANES)(WRONG[name], few_rows)


def test_weights_that_were_converted_are_not_read():
    case, x = Case(4, 32, 2, LANES), torch.zeros(3, 64)
    codes, scales, zeros = case.packed
    for packed, bias in (
        ((codes, scales.half(), zeros), case.bias),
        ((codes, scales, zeros.float()), case.bias),
        (case.packed, case.bias.double()),
        (case.packed, case.bias[:1]),
        (case.packed, case.bias.to("meta")),
    ):
        with pytest.raises(ValueError, match="cannot be converted or moved"):
            packed_linear(x, packed, bias, 4, ALL)


def test_what_traces_is_refused():
    case, x = Case(4, 32, 2, LANES), torch.zeros(3, 64)
    with pytest.raises(ValueError, match="cannot be traced"):
        make_fx(case)(x)
    with FakeTensorMode() as mode, pytest.raises(ValueError, match="cannot be traced"):
        case(mode.from_tensor(x))


@pytest.mark.parametrize("few_rows", [ALL, 0])
def test_a_gradient_is_refused_when_it_is_asked_for(few_rows):
    case = Case(4, 32, 2, LANES)
    x = torch.randn(3, 64, generator=torch.Generator().manual_seed(1))
    plain = case(x, few_rows)
    case.bias.requires_grad_()
    assert not case(x, few_rows).requires_grad
    found = case(x.requires_grad_(), few_rows)
    assert torch.equal(found, plain)
    with pytest.raises(NotImplementedError, match="have no gradient"):
        found.sum().backward()
    with torch.no_grad():
        assert not case(x, few_rows).requires_grad


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_rows_are_widened_and_give_narrow_results(dtype):
    case = Case(4, 32, 2, LANES)
    x = torch.randn(2, 3, 64, generator=torch.Generator().manual_seed(1)).to(dtype)
    assert torch.equal(case(x), case(x.float()).to(dtype))


@pytest.mark.parametrize("few_rows", [ALL, 0])
def test_defaults_of_the_process_change_nothing(few_rows):
    case, x = Case(4, 32, 2, LANES), torch.ones(3, 64)
    expected, before = case(x, few_rows), torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(case(x, few_rows), expected)
        torch.set_default_device("meta")
        assert torch.equal(case(x, few_rows), expected)
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(before)


def test_the_least_width_is_taken():
    codes = torch.zeros(2, 2, dtype=torch.uint8)
    for most, bits in ((0, 2), (3, 2), (4, 4), (15, 4), (16, 8), (255, 8)):
        codes[1, 1] = most
        assert width_for(codes) == bits


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other names for it")
def test_the_threads_are_those_of_torch():
    assert (team() is not None) == torch.backends.openmp.is_available()


THREADS = """
import os, sys, torch
from qcompile.emit.native import threads
from tests.emit.test_native_product import Case
threads.WORTH_A_THREAD = 1
torch.set_num_threads(4)
case, x = Case(4, 32, 2, 64 * 16), torch.eye(64)
case.bias.zero_()
error = (case(x).t() - case.weight).abs().max() / case.weight.abs().max()
assert error < 1e-4, error
if "fork" in sys.argv:
    child = os.fork()
    if child == 0:
        os._exit(0 if abs(case(x)[0, 0] - case.weight[0, 0]) < 1e-2 else 3)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize(
    "setting", ["OMP_DYNAMIC=true", "OMP_THREAD_LIMIT=1", "OMP_MAX_ACTIVE_LEVELS=0", "fork=1"]
)
def test_all_outputs_are_there_with_fewer_threads_than_asked_for(setting):
    """Of few rows: oneDNN's own products of many are wrong then (3.12)."""
    name, value = setting.split("=")
    command = [sys.executable, "-W", "ignore", "-c", THREADS, name]
    done = subprocess.run(command, env=os.environ | {name: value}, timeout=120)
    assert done.returncode == 0
