"""The largest sums against every extreme input, and against the program that is audited."""

import itertools

import pytest
import torch
from torch import nn

from qcompile.analysis.accumulator import sums_of_run
from qcompile.audit.audit import audit, sums_of
from qcompile.audit.codes import all_codes
from qcompile.audit.integer_sums import IntegerSum
from qcompile.policy.scheme import IntFormat, PerChannel, PerGroup, PerTensor, QuantSlot
from qcompile.quant.fake_quantize import dequantize_weight
from qcompile.quant.packing import pack
from tests.interop.exporting import normal, quantized


def slot(bits, signed, symmetric, granularity, dynamic=False):
    number = IntFormat(bits=bits, signed=signed)
    return QuantSlot(format=number, symmetric=symmetric, granularity=granularity, dynamic=dynamic)


A8 = slot(8, False, False, PerTensor())
ACTS = [A8, slot(4, True, True, PerTensor()), slot(5, False, False, PerTensor(), dynamic=True)]
WEIGHTS = [
    slot(4, True, True, PerChannel()),
    slot(3, False, False, PerChannel()),
    slot(8, False, False, PerTensor()),
    slot(5, True, False, PerGroup(size=4)),
]
STEPS = [(-85, 170), (-8, 7), (-31, 31)]
"""Of the inputs above; the static range of these plans has the zero point 85."""


@pytest.mark.parametrize("weight", WEIGHTS, ids=lambda s: f"{s.format}-{s.granularity}")
@pytest.mark.parametrize(("act", "steps"), [*zip(ACTS, STEPS, strict=True)])
def test_no_input_makes_a_larger_sum(tmp_path, weight, act, steps):
    torch.manual_seed(3)
    made = quantized(nn.Sequential(nn.Linear(8, 3)), (normal(2, 8),), weight, act)
    (found,) = sums_of(made.written_to(tmp_path / "out"))
    (node,) = made.module.graph.find_nodes(op="call_function", target=dequantize_weight)
    given = [
        made.module.get_buffer(str(arg.target)) if isinstance(arg, torch.fx.Node) else arg
        for arg in node.args
    ]
    scale = given[1].reshape(-1, given[1].shape[1] if given[1].dim() == 2 else 1)
    groups = scale.shape[1]
    integers = (dequantize_weight(*given).view(3, groups, -1) / scale[..., None]).round()
    integers = integers.expand(3, groups, -1).reshape(3 * groups, -1)
    extremes = torch.tensor(list(itertools.product(steps, repeat=integers.shape[1])))
    sums = extremes.to(torch.float32) @ integers.T
    assert (found.low, found.high) == (min(int(sums.min()), 0), max(int(sums.max()), 0))


@pytest.mark.parametrize("weight", [*WEIGHTS, slot(6, True, True, PerChannel(axis=1))])
@pytest.mark.parametrize(
    "layer", [nn.Conv2d(4, 6, (1, 4)), nn.Conv2d(4, 8, 2, groups=2), nn.ConvTranspose2d(4, 4, 2)]
)
def test_both_programs_find_the_same_sums(tmp_path, layer, weight):
    made = quantized(nn.Sequential(layer), (normal(2, 4, 6, 6),), weight, A8)
    artifact = made.written_to(tmp_path / "out")
    assert audit(artifact) == []
    ours, theirs = sums_of(artifact), sums_of_run(made.plan.core.sites, made.tensors)
    expected = [(one.site, one.low, one.high, one.bits) for one in theirs]
    assert [(one.site, one.low, one.high, one.bits) for one in ours] == expected


def test_sums_that_do_not_fit_are_found(tmp_path):
    layer = nn.Linear(60_000, 1)
    nn.init.ones_(layer.weight)
    made = quantized(
        nn.Sequential(layer), (normal(1, 60_000),), slot(8, False, False, PerChannel()), A8
    )
    (problem,) = audit(made.written_to(tmp_path / "out"))
    assert problem.code.number == "QR517"
    assert "can take 33 bits, more than the 32" in problem.message


def test_layers_with_one_operand_in_float_have_no_integer_sums(tmp_path):
    made = quantized(nn.Sequential(nn.Linear(8, 3)), (normal(2, 8),), WEIGHTS[0], None)
    assert sums_of(made.written_to(tmp_path / "out")) == ()


@pytest.mark.parametrize(
    ("low", "high", "bits"),
    [(0, 0, 1), (-1, 0, 1), (-1, 1, 2), (-128, 127, 8), (-129, 127, 9), (-128, 128, 9)],
)
def test_bits_are_those_of_twos_complement(low, high, bits):
    assert IntegerSum("a", low, high).bits == bits


@pytest.mark.parametrize("bits", range(2, 9))
def test_all_codes_come_back(bits, monkeypatch):
    monkeypatch.setattr("qcompile.audit.codes.PIECE", 3)
    codes = torch.randint(0, 1 << bits, (101,), dtype=torch.uint8)
    stream = memoryview(pack(codes, bits).numpy().tobytes())
    assert all_codes(stream, bits, 101).tolist() == codes.tolist()
