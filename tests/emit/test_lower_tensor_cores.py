"""What CUDA targets compute, on a CPU where torch has the same operations, and on a device."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from qcompile.capture.trace import trace
from qcompile.compat import tensor_cores
from qcompile.compat.cpu_features import has_avx2
from qcompile.emit.lower import limits
from qcompile.emit.lower.agreement import agreement
from qcompile.emit.lower.difference import relative
from qcompile.emit.lower.exact import simulation
from qcompile.emit.lower.kernels import int4_linear
from qcompile.emit.lower.lower import lower
from qcompile.emit.lower.machine import device_of
from qcompile.emit.lower.tensor_core_kernels import dynamic_int8_linear, fp8_product, int8_linear
from qcompile.emit.materialize import materialize
from qcompile.policy.number_format import SumFormat, named
from qcompile.policy.scheme import (
    Clip,
    PerChannel,
    PerGroup,
    PerTensor,
    PerToken,
    QuantSlot,
    SignedMse,
)
from qcompile.targets.catalogue import find_target
from qcompile.targets.names import BUILTIN
from qcompile.targets.target import Target
from tests.emit.lowering import A8, W8, calls, close, lowered, slot
from tests.emit.test_lower_nine_bits import inputs, skewed

BF16 = 6e-3


def on_cpu(name):
    """The target of that name, which asks for no device."""
    return find_target(name).model_copy(update={"needs": ()})


WEIGHTS = [
    W8,
    slot(8, False, False, PerChannel()),
    slot(8, True, True, PerTensor()),
    slot(5, False, False, PerChannel()),
    slot(2, True, False, PerTensor()),
]
ACTS = [
    A8,
    slot(8, True, True, PerTensor()),
    slot(5, False, False, PerTensor()),
    replace(A8, dynamic=True),
    slot(8, True, True, PerTensor(), dynamic=True),
    slot(8, True, True, PerToken(), dynamic=True),
    slot(6, False, False, PerToken(), dynamic=True),
    replace(slot(4, True, False, PerToken(), dynamic=True), observer=Clip(share=0.8)),
]


@pytest.mark.parametrize("weight", WEIGHTS, ids=lambda s: f"{s.format}-{s.granularity}")
@pytest.mark.parametrize("act", ACTS, ids=lambda s: f"{s.format}-{s.granularity}-{s.dynamic}")
@pytest.mark.parametrize("bias", [True, False])
def test_8_bit_products_equal_the_reference_for_all_sizes(planned, weight, act, bias):
    net = nn.Sequential(skewed(nn.Linear(21, 10, bias=bias)))
    x = inputs(5, 7, 21)
    reference, made = lowered(planned, net, x, weight=weight, act=act, target=on_cpu("cuda-int8"))
    assert calls(made) == [dynamic_int8_linear if act.dynamic else int8_linear]
    assert made.report.in_float == ()
    close(reference, made, x)
    close(reference, made, x[:1, :1])
    assert made.module(x[:0]).shape == (0, 7, 10)


class Scaled(nn.Module):
    """A gain behind a layer, in front of which its input is written to."""

    def __init__(self):
        super().__init__()
        self.layer, self.gain = nn.Linear(24, 24), nn.Parameter(inputs(24))

    def forward(self, x):
        x = torch.relu(x)
        y = self.layer(x)
        x += 1
        return y * self.gain + x


class ComputedBias(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.other = skewed(nn.Linear(24, 6)), nn.Parameter(inputs(6))

    def forward(self, x):
        return nn.functional.linear(x, self.layer.weight, self.other * 2)


@pytest.mark.parametrize(
    "act", [A8, ACTS[3], ACTS[6]], ids=lambda s: f"{s.granularity}-{s.dynamic}"
)
def test_a_gain_is_taken_over_and_the_input_read_in_its_place(planned, act):
    x = inputs(5, 24)
    reference, made = lowered(planned, Scaled(), x, act=act, target=on_cpu("cuda-int8"))
    assert made.report.layers[0].fused == (() if act.dynamic else ("scale",))
    close(reference, made, x)


@pytest.mark.parametrize(
    "act", [A8, ACTS[3], ACTS[6]], ids=lambda s: f"{s.granularity}-{s.dynamic}"
)
@pytest.mark.parametrize("target", ["cuda-int8", "x86-int8"])
def test_nine_bits_with_a_bias_that_the_graph_computes(planned, act, target):
    x = inputs(5, 24)
    given = {"weight": slot(8, False, False, PerChannel()), "act": act}
    reference, made = lowered(planned, ComputedBias(), x, target=on_cpu(target), **given)
    assert len(made.report.in_float) == (not act.dynamic)
    close(reference, made, x)


@pytest.mark.parametrize("rows", [1, 16, 17, 24, 25, 33])
def test_sizes_are_those_that_cublas_takes_and_the_sums_are_whole(monkeypatch, rows):
    seen = []
    real = torch.ops.aten._int_mm

    def product(one, other):
        seen.append((one.shape, other.shape, other.stride()))
        return real(one, other)

    monkeypatch.setattr(torch.ops.aten, "_int_mm", product)
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(-128, 128, (rows, 30), dtype=torch.int8, generator=generator)
    codes = torch.randint(-128, 128, (11, 30), dtype=torch.int8, generator=generator)
    found = tensor_cores.multiply_int8(x, tensor_cores.packed_int8(codes))
    assert torch.equal(found[:, :11].long(), x.long() @ codes.long().t())
    assert not found[:, 11:].any()
    ((left, right, strides),) = seen
    assert left[0] > 16
    assert not any(size % 8 for size in (*left, *right))
    assert strides[0] == 1  # the second operand lies by columns


def test_layers_behind_each_other_are_judged_one_by_one(planned):
    net = nn.Sequential(nn.Linear(32, 48), nn.GELU(), nn.Linear(48, 32), nn.LayerNorm(32))
    x = inputs(9, 32)
    target = on_cpu("cuda-int8")
    reference, made = lowered(planned, net, x, target=target)
    found = agreement(reference, simulation(reference), made, target)
    assert (found.problems, found.batches) == ((), (2, 3))
    assert found.layer_difference < 1e-5


def test_sums_of_more_than_32_bits_and_convolutions_stay_in_float(planned, monkeypatch):
    x = inputs(5, 24)
    target = on_cpu("cuda-int8")
    monkeypatch.setattr(limits, "LARGEST", 1)
    _, made = lowered(planned, nn.Sequential(nn.Linear(24, 8)), x, target=target)
    assert [layer.because for layer in made.report.in_float] == ["its sums do not fit 32 bits"]
    _, made = lowered(planned, nn.Conv2d(3, 4, 3), inputs(2, 3, 8, 8), target=target)
    (layer,) = made.report.in_float
    assert layer.because.startswith("no kernel takes conv2d")


FP8 = QuantSlot(format=named("fp8_e4m3"), symmetric=True, granularity=PerChannel())
FP8_ACTS = [
    replace(FP8, granularity=PerTensor(), dynamic=True),
    replace(FP8, granularity=PerToken(), dynamic=True),
]


@pytest.mark.parametrize("granularity", [PerChannel(), PerTensor()], ids=str)
@pytest.mark.parametrize("act", FP8_ACTS, ids=lambda s: str(s.granularity))
@pytest.mark.parametrize("bias", [True, False])
def test_products_of_small_floats_equal_the_reference_for_all_sizes(
    planned, granularity, act, bias
):
    weight = replace(FP8, granularity=granularity)
    net = nn.Sequential(skewed(nn.Linear(21, 10, bias=bias)))
    x = 30 * inputs(5, 7, 21)
    reference, made = lowered(planned, net, x, weight=weight, act=act, target=on_cpu("cuda-fp8"))
    assert calls(made) == [fp8_product]
    assert made.report.in_float == ()
    for given in (x, x[:1, :1], 0 * x):
        torch.testing.assert_close(made.module(given), reference(given), rtol=2e-5, atol=2e-5)
    assert made.module(x[:0]).shape == (0, 7, 10)
    assert relative(reference(x), net(x)) < 0.05


class Turned(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(inputs(21, 10))

    def forward(self, x):
        return x @ self.weight


def test_a_product_with_a_parameter_of_small_floats_is_a_linear_layer(planned):
    x = inputs(5, 21)
    target = on_cpu("cuda-fp8")
    reference, made = lowered(planned, Turned(), x, weight=FP8, act=FP8_ACTS[0], target=target)
    assert calls(made) == [fp8_product]
    torch.testing.assert_close(made.module(x), reference(x), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("rows", [1, 16, 17])
def test_sizes_of_small_floats_are_those_that_cublas_takes(monkeypatch, rows):
    seen = []
    real = torch.ops.aten._scaled_mm

    def product(one, other, *rest, **more):
        seen.append((*one.shape, *other.shape))
        return real(one, other, *rest, **more)

    monkeypatch.setattr(torch.ops.aten, "_scaled_mm", product)
    x, codes = (inputs(n, 30).to(torch.float8_e4m3fn) for n in (rows, 11))
    found = tensor_cores.multiply_fp8(x, tensor_cores.packed_fp8(codes))
    torch.testing.assert_close(found[:, :11], x.float() @ codes.float().t(), rtol=1e-5, atol=1e-5)
    assert not found[:, 11:].any()
    assert not any(size % 16 for size in seen[0])


@pytest.mark.parametrize(
    ("weight", "act", "because"),
    [
        (FP8, A8, "its input is not of `fp8_e4m3`"),
        (replace(FP8, format=named("fp8_e5m2")), FP8_ACTS[0], "its weight is not of `fp8_e4m3`"),
        (W8, FP8_ACTS[0], "its weight is not of `fp8_e4m3`"),
        (
            replace(FP8, format=SumFormat((named("fp8_e4m3"),) * 2)),
            FP8_ACTS[0],
            "its weight is not of `fp8_e4m3`",
        ),
        (
            replace(FP8, granularity=PerGroup(size=8)),
            FP8_ACTS[0],
            "the kernel has one scale for each output",
        ),
    ],
)
def test_what_is_no_product_of_small_floats_stays_in_float(planned, weight, act, because):
    """Whatever a file promises."""
    row = {"ops": ["linear"], "weight": "any", "act": "any", "outcome": "kernel"}
    target = Target.model_validate(
        {"name": "careless", "title": "", "support": [row | {"kernel": "scaled_mm"}]}
    )
    x = inputs(5, 24)
    net = nn.Sequential(nn.Linear(24, 8))
    reference, made = lowered(planned, net, x, weight=weight, act=act, target=target)
    assert torch.equal(made.module(x), reference(x))
    assert [layer.because for layer in made.report.in_float] == [because]


INT4 = [
    slot(4, True, True, PerGroup(size=32)),
    replace(slot(4, True, True, PerGroup(size=32)), observer=SignedMse()),
    slot(4, False, False, PerGroup(size=64)),
    slot(2, False, False, PerChannel()),
]


@pytest.mark.skipif(not has_avx2(), reason="this processor has no AVX2")
@pytest.mark.parametrize("weight", INT4, ids=lambda s: f"{s.format}-{s.granularity}")
def test_4_bit_products_take_the_operations_of_the_device(planned, weight):
    """On a CPU those of the CPU, whose arithmetic is the same."""
    target = on_cpu("cuda-int4")
    x = inputs(target.few_rows + 1, 128)
    net = nn.Sequential(nn.Linear(128, 48))
    reference, made = lowered(planned, net, x, weight=weight, act=None, target=target)
    assert calls(made) == [int4_linear]
    for rows in (1, target.few_rows + 1):
        assert relative(made.module(x[:rows]), reference(x[:rows])) < BF16


def test_4_bit_codes_are_packed_as_the_device_wants_them(monkeypatch):
    """Two in a byte, the first of them high; the largest tiles that fit."""
    seen = []

    def pack(codes, tiles):
        seen.append((codes, tiles))
        return codes

    monkeypatch.setattr(torch.ops.aten, "_convert_weight_to_int4pack", pack)
    codes = torch.arange(16).repeat(8, 8)
    for width, tiles in ((128, 8), (64, 4), (96, 2), (32, 2)):
        made = tensor_cores.pack_int4(codes[:, :width].to(torch.int32))
        assert (made.shape, made.dtype, seen[-1][1]) == ((8, width // 2), torch.uint8, tiles)
        assert made[0, :3].tolist() == [0x01, 0x23, 0x45]


# ---- on a device --------------------------------------------------------------------------------

DEVICE = [
    pytest.param(
        name,
        weight,
        act,
        marks=pytest.mark.skipif(not has(), reason="no such CUDA device here"),
    )
    for name, weight, act, has in (
        *(("cuda-int8", WEIGHTS[n], act, tensor_cores.has_int8) for n in (0, 1) for act in ACTS),
        *(("cuda-int4", weight, None, tensor_cores.has_int4) for weight in INT4),
        *(("cuda-fp8", FP8, act, tensor_cores.has_fp8) for act in FP8_ACTS),
    )
]


@pytest.mark.parametrize(("name", "weight", "act"), DEVICE)
def test_a_device_computes_what_the_simulation_does(planned, name, weight, act):
    target = find_target(name)
    module = trace(nn.Sequential(skewed(nn.Linear(128, 48))).eval(), (inputs(4, 128),), {}).module
    plan, tensors = planned(module, weight, act)
    reference = materialize(module, plan.core, tensors)
    made = lower(reference, plan.core, target)
    assert made.report.in_float == ()
    simulated = simulation(reference).to(made.device)
    found = agreement(reference.to(made.device), simulated, made, target)
    assert (found.problems, found.batches) == ((), (2, 3))
    for rows in (1, 100):
        x = inputs(rows, 128).to(made.device)
        assert relative(made.module(x), reference(x)) <= target.agreement


def test_targets_that_ask_for_a_device_run_there():
    found = {name: device_of(find_target(name)).type for name in BUILTIN}
    on_device = {"cuda-int8", "cuda-int4", "cuda-fp8"}
    assert found == {name: "cuda" if name in on_device else "cpu" for name in BUILTIN}


@pytest.mark.parametrize("probe", ["has_int8", "has_fp8", "has_int4"])
def test_a_device_that_is_too_old_is_not_taken(monkeypatch, probe):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a device")
    assert getattr(tensor_cores, probe)() is False
    assert tensor_cores.found_devices() == "this torch sees a device, of compute capability 7.0"
