"""Weights of 8 bits around a zero point: nine bits, for kernels that multiply by eight."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from qcompile.compat.cpu_features import multiplies_bytes
from qcompile.compat.onednn_operations import onednn
from qcompile.emit.lower import limits
from qcompile.emit.lower.agreement import compare
from qcompile.emit.lower.difference import relative
from qcompile.emit.lower.kernels import add_outer, channels_twice, dynamic_linear, rows_twice
from qcompile.emit.lower.limits import HERE
from qcompile.emit.lower.replay import record
from qcompile.policy.scheme import PerChannel, PerTensor, PerToken
from tests.emit.lowering import (
    A8,
    X86,
    calls,
    close,
    lowered,
    same_bits,
    skip_what_is_miscounted_here,
    slot,
)

pytestmark = pytest.mark.skipif(not multiplies_bytes(), reason="this processor has no VNNI")

W8Z = slot(8, False, False, PerChannel())
WEIGHTS = [W8Z, slot(8, True, False, PerChannel()), slot(8, False, False, PerTensor())]
UNSIGNED = slot(8, False, True, PerChannel())
ACTS = [A8, slot(8, True, True, PerTensor()), slot(4, False, False, PerTensor())]
DYNAMIC = [
    slot(8, False, False, PerTensor(), dynamic=True),
    slot(8, True, True, PerToken(), dynamic=True),
    slot(6, False, False, PerToken(), dynamic=True),
]


BELOW = (0, 1.2, 0.5, 0.2)


def skewed(layer, seed=0):
    """Outputs whose weights are all positive, all negative, and of both signs: every zero point."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for number, row in enumerate(layer.weight):
            row.copy_(torch.rand(row.shape, generator=generator) - BELOW[number % 4])
        if layer.bias is not None:
            # drawn so that no number of these tests lies on the edge between two codes
            layer.bias.copy_(torch.rand(layer.bias.shape, generator=generator) / 4)
    return layer


def inputs(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


CONVOLUTIONS = [
    (nn.Conv2d(4, 6, 3), rows_twice),
    (nn.Conv2d(4, 6, 3, padding=1, bias=False), rows_twice),
    (nn.Conv2d(4, 6, (3, 5), stride=(2, 1), padding=(2, 0), dilation=(1, 2)), rows_twice),
    (nn.Conv2d(4, 4, 3, padding=1, groups=4), rows_twice),
    (nn.Conv2d(4, 8, (1, 3), stride=2, padding=(0, 1), dilation=2, groups=2), rows_twice),
    (nn.Conv2d(4, 6, 1), channels_twice),
    (nn.Conv2d(4, 6, 3, padding=1, dilation=2), channels_twice),
]


@pytest.mark.parametrize(
    ("conv", "twice"), CONVOLUTIONS, ids=lambda x: getattr(x, "__name__", str(x))
)
@pytest.mark.parametrize("act", ACTS, ids=lambda s: f"{s.format}")
@pytest.mark.parametrize("weight", [*WEIGHTS, UNSIGNED], ids=lambda s: f"{s.format}")
def test_a_convolution_is_one_of_the_codes_twice(planned, conv, twice, act, weight):
    x = inputs(3, 4, 9, 12)
    reference, made = lowered(planned, nn.Sequential(skewed(conv)), x[:2], weight=weight, act=act)
    close(reference, made, x)
    skip_what_is_miscounted_here(made)
    assert made.report.in_float == ()
    assert calls(made)[-2:] == [twice, onednn().conv2d]


@pytest.mark.parametrize("act", [*ACTS, *DYNAMIC], ids=lambda s: f"{s.format}-{s.granularity}")
@pytest.mark.parametrize("weight", [*WEIGHTS, UNSIGNED], ids=lambda s: f"{s.format}")
@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer_has_one_output_more(planned, weight, act, bias):
    net = nn.Sequential(skewed(nn.Linear(24, 10, bias=bias)))
    x = inputs(5, 24)
    reference, made = lowered(planned, net, x[:2], weight=weight, act=act)
    close(reference, made, x)
    close(reference, made, inputs(5, 3, 24))
    assert made.report.in_float == ()
    assert calls(made)[-1] is (dynamic_linear if act.dynamic else add_outer)
    assert made.module(x[:0]).shape == (0, 10)


@st.composite
def convolutions(draw):
    number = st.integers(1, 3)
    groups = draw(number)
    return nn.Conv2d(
        groups * draw(number),
        groups * draw(number),
        (draw(number), draw(number)),
        stride=(draw(number), draw(number)),
        padding=(draw(st.integers(0, 2)), draw(st.integers(0, 2))),
        dilation=(draw(st.integers(1, 2)), draw(st.integers(1, 2))),
        groups=groups,
        bias=draw(st.booleans()),
    )


FEW = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@FEW
@given(convolutions(), st.sampled_from(ACTS), st.integers(0, 9))
def test_any_convolution_equals_the_reference_or_is_listed(planned, conv, act, seed):
    x = inputs(2, conv.in_channels, 7, 6, seed=seed)
    net = nn.Sequential(skewed(conv, seed))
    reference, made = lowered(planned, net, x, weight=W8Z, act=act)
    close(reference, made, x)
    apart = conv.groups > 1 and conv.dilation[0] > 1 and conv.kernel_size[0] > 1
    if not apart and all(p < k for p, k in zip(conv.padding, conv.kernel_size, strict=True)):
        miscounted = [layer for layer in made.report.in_float if HERE in layer.because]
        assert list(made.report.in_float) == miscounted


def test_rows_that_cannot_be_doubled_stay_in_float_and_are_listed(planned):
    conv = skewed(nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=2))
    x = inputs(2, 4, 9, 9)
    reference, made = lowered(planned, nn.Sequential(conv), x, weight=W8Z)
    assert same_bits(reference, made, x)
    (layer,) = made.report.in_float
    assert (
        layer.because == "codes around zero do not fit 8 bits, and its rows are dilated in groups"
    )


class Computed(nn.Module):
    """A bias that the graph makes."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.rand(6, 24)), nn.Parameter(torch.ones(6))

    def forward(self, x):
        return F.linear(x, self.weight, self.bias * 2)


def test_a_bias_that_the_graph_computes_stays_in_float_and_is_listed(planned):
    x = inputs(5, 24)
    reference, made = lowered(planned, Computed(), x, weight=W8Z)
    assert same_bits(reference, made, x)
    (layer,) = made.report.in_float
    assert layer.because.endswith("the graph computes its bias")


class Block(nn.Module):
    """An inverted residual and a head: shared codes, a shortcut, activations, a LayerScale."""

    def __init__(self):
        super().__init__()
        self.stem = skewed(nn.Conv2d(3, 8, 3, stride=2, padding=1))
        self.wide, self.beside = (skewed(nn.Conv2d(8, 16, 1), seed) for seed in (1, 2))
        self.depth = skewed(nn.Conv2d(16, 16, 3, padding=1, groups=16))
        self.narrow = skewed(nn.Conv2d(16, 8, 1))
        self.first, self.last = skewed(nn.Linear(8, 16)), skewed(nn.Linear(16, 8))
        self.gamma = nn.Parameter(torch.linspace(0.5, 1, 8))

    def forward(self, x):
        x = F.relu6(self.stem(x))
        y = self.depth(F.relu6(self.wide(x) + self.beside(x)))
        x = self.narrow(F.relu6(y)) + x
        x = x.mean((2, 3))
        return self.last(F.gelu(self.first(x))) * self.gamma + x


def test_layers_take_over_what_they_took_over_before(planned):
    x = inputs(3, 3, 12, 12)
    reference, made = lowered(planned, Block(), x[:2], weight=W8Z)
    fused = {layer.key: layer.fused for layer in made.report.layers}
    assert fused["stem"] == ("hardtanh",)
    assert fused["depth"] == ("hardtanh", "quantize")
    assert (fused["narrow"], fused["first"], fused["last"]) == (("add",), (), ("scale",))
    assert calls(made).count(channels_twice) == 2  # `wide` and `beside` share theirs
    found = compare(record(reference, [made.module], [x]), made.module, [x], X86)
    assert (found.problems, found.layer_difference < 1e-5) == ((), True)


def test_every_number_of_nine_bits_is_a_sum_of_two_codes(planned):
    """With the sign that its output has: 255 is a sum of two codes of the other sign alone."""
    made, x = [], 2 * torch.eye(256)[..., None, None]
    for weight in (torch.linspace(0, 1, 256), torch.linspace(-1, 0, 256)):
        conv = nn.Conv2d(256, 1, 1, bias=False)
        conv.weight.data.copy_(weight[None, :, None, None])
        reference, lowering = lowered(planned, conv, x, weight=W8Z)
        made.append(lowering.module(x).flatten())
        assert relative(lowering.module(x), reference(x)) < 5e-5
    up, down = made
    torch.testing.assert_close(up, -down.flip(0), rtol=0, atol=1e-4)
    assert up.diff().min() > 0


def test_sums_that_may_leave_32_bits_stay_in_float(planned, monkeypatch):
    """65025 a product: from 33,026 inputs on they may; here the limit comes down instead."""
    net = nn.Sequential(skewed(nn.Linear(24, 10)))
    x = inputs(5, 24)
    most = product_sum(planned, net, x)
    monkeypatch.setattr(limits, "LARGEST", most)
    assert lowered(planned, net, x, weight=W8Z)[1].report.in_float == ()
    monkeypatch.setattr(limits, "LARGEST", most - 1)
    reference, made = lowered(planned, net, x, weight=W8Z)
    assert same_bits(reference, made, x)
    assert [layer.because for layer in made.report.in_float] == ["its sums do not fit 32 bits"]


def product_sum(planned, net, x):
    """Of sizes of codes times 255, for the output that has most: each is at most 128."""
    reference, made = lowered(planned, net, x, weight=W8Z)
    (packed,) = (value for value in reference.buffers() if value.numel() == 240)
    codes = packed.view(10, 24).to(torch.int64)
    *factor, step = made.module.get_buffer("_0_factor")
    offset = made.module.get_buffer("_0_outer") * step / torch.stack(factor)
    (zeros,) = (v for n, v in reference.named_buffers() if "zero" in n and v.numel() == 10)
    middle = zeros.flatten() + offset.round().to(torch.int64)
    return 255 * int((codes - middle[:, None]).abs().sum(1).max())
