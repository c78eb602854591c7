from dataclasses import replace

import pytest
from torch import nn

from qcompile.interop.capability import CAPABILITIES, FORMATS, capability_of, check_plan
from qcompile.interop.compressed_levels import FORMS
from qcompile.policy.number_format import (
    BlockFormat,
    CodebookFormat,
    FloatFormat,
    IntFormat,
    NormalFormat,
    PowerFormat,
    SumFormat,
)
from qcompile.policy.scheme import Clip, PerChannel, PerGroup, PerTensor, PerToken, QuantSlot
from tests.interop.exporting import normal, quantized


def slot(bits, granularity, *, signed=True, symmetric=True, dynamic=False):
    number = IntFormat(bits=bits, signed=signed)
    return QuantSlot(format=number, symmetric=symmetric, granularity=granularity, dynamic=dynamic)


W8, W4 = slot(8, PerChannel()), slot(4, PerChannel())
GROUPS = slot(4, PerGroup(size=32), signed=False, symmetric=False)
STATIC = slot(8, PerTensor(), signed=False, symmetric=False)
TOKEN = slot(8, PerToken(), dynamic=True)
CLIPPED = replace(TOKEN, observer=Clip(share=0.9))
LINEAR = nn.Linear(64, 8)
CONV = nn.Conv2d(64, 8, 1)
LEVELS = [
    *(PowerFormat(4), NormalFormat(), CodebookFormat(4), FloatFormat("e4m3"), BlockFormat("mxfp4")),
    SumFormat((IntFormat(4, signed=True), IntFormat(2, signed=True))),
]


def refused(name, leaf, weight, act):
    shape = (2, 64) if isinstance(leaf, nn.Linear) else (2, 64, 4, 4)
    plan = quantized(nn.Sequential(leaf), (normal(*shape),), weight, act).plan
    found = check_plan(plan.core, capability_of(name))
    assert all(item.code.number == "QR550" for item in found)
    return [item.message.removeprefix(f"`{name}` cannot hold ") for item in found]


def test_pt2_and_onnx_hold_every_integer_plan():
    for name in ("pt2", "onnx"):
        assert refused(name, CONV, slot(3, PerGroup(size=16)), STATIC) == []
        assert refused(name, LINEAR, W4, CLIPPED) == []


COMPRESSED = [
    (LINEAR, W4, None, []),
    (LINEAR, GROUPS, None, []),
    (LINEAR, W8, TOKEN, []),
    (LINEAR, W8, STATIC, []),
    (LINEAR, W8, replace(TOKEN, observer=Clip(share=1.0)), []),
    (LINEAR, W8, CLIPPED, ["ranges that are found at run time and clipped"]),
    (LINEAR, W8, replace(STATIC, observer=Clip(share=0.9)), []),
    (CONV, W8, None, ["the quantized weight of a conv"]),
    (LINEAR, W4, STATIC, ["quantized activations beside 4-bit weights"]),
    (LINEAR, None, STATIC, ["quantized activations of a linear without a quantized weight"]),
    (LINEAR, slot(3, PerChannel()), None, ["int3 symmetric weights"]),
    (
        LINEAR,
        slot(8, PerChannel(axis=1)),
        None,
        ["a matrix whose scales do not follow its first axis"],
    ),
    (LINEAR, slot(8, PerChannel(), signed=False), None, ["uint8 symmetric weights"]),
]


@pytest.mark.parametrize(("leaf", "weight", "act", "reasons"), COMPRESSED)
def test_compressed_tensors_holds_linear_layers(leaf, weight, act, reasons):
    assert refused("compressed-tensors", leaf, weight, act) == reasons


GGUF = [
    (LINEAR, GROUPS, None, []),
    (LINEAR, slot(8, PerGroup(size=64)), None, []),
    (LINEAR, slot(5, PerChannel()), None, []),
    (LINEAR, W4, TOKEN, ["quantized activations"]),
    (LINEAR, W4, CLIPPED, ["quantized activations"]),
    (LINEAR, slot(8, PerChannel(), symmetric=False), None, ["int8 asymmetric weights"]),
    (
        LINEAR,
        slot(4, PerGroup(size=16)),
        None,
        ["per_group(16) scales of rows of 64, which are no blocks of 32"],
    ),
    (CONV, W4, None, ["the quantized weight of a conv"]),
]


@pytest.mark.parametrize(("leaf", "weight", "act", "reasons"), GGUF)
def test_gguf_holds_blocks_of_32(leaf, weight, act, reasons):
    assert refused("gguf", leaf, weight, act) == reasons


def of_levels(number, granularity=None, *, dynamic=False):
    whole = PerGroup(number.block) if isinstance(number, BlockFormat) else PerChannel()
    return QuantSlot(
        format=number, symmetric=True, granularity=granularity or whole, dynamic=dynamic
    )


@pytest.mark.parametrize("name", ["onnx", "gguf"])
@pytest.mark.parametrize("number", LEVELS, ids=str)
def test_weights_that_are_no_integers_are_not_for_onnx_and_gguf(name, number):
    spec = of_levels(number)
    assert refused(name, LINEAR, spec, None) == [f"the number format {number}"]
    assert refused("pt2", LINEAR, spec, None) == []


FP8, FP6 = FloatFormat("e4m3"), FloatFormat("e2m3")
MX, NV = BlockFormat("mxfp4"), BlockFormat("nvfp4")
OTHERS = [(number, [f"the number format {number}"]) for number in LEVELS]
SMALL_FLOATS = [
    *((of_levels(FP8, granularity), None, []) for granularity in (PerChannel(), PerTensor())),
    *((of_levels(number), None, []) for number in (BlockFormat("mxfp8"), MX, NV)),
    *((of_levels(number), None, reasons) for number, reasons in OTHERS if number not in {FP8, MX}),
    (of_levels(FP6), None, ["the number format fp6_e2m3"]),
    (of_levels(BlockFormat("mxfp6")), None, ["the number format mxfp6"]),
    (of_levels(FP8, PerGroup(32)), None, ["per_group(32) scales of fp8_e4m3 weights"]),
    (of_levels(FP8), of_levels(FP8, PerToken(), dynamic=True), []),
    (of_levels(FP8), of_levels(FP8, PerTensor()), []),
    (of_levels(FP8), TOKEN, ["int8 activations beside fp8_e4m3 weights"]),
    (
        W8,
        of_levels(FP8, PerToken(), dynamic=True),
        ["fp8_e4m3 activations beside int8 weights"],
    ),
]


def test_each_small_float_that_is_held_has_a_form():
    assert capability_of("compressed-tensors").weights.levels == FORMS.keys()


@pytest.mark.parametrize(("weight", "act", "reasons"), SMALL_FLOATS)
def test_compressed_tensors_holds_small_floats(weight, act, reasons):
    assert refused("compressed-tensors", LINEAR, weight, act) == reasons


def test_one_reason_is_told_once_with_the_line_that_asked_for_it():
    net = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    plan = quantized(net, (normal(2, 8),), W4, None).plan
    (found,) = check_plan(plan.core, capability_of("gguf"))
    assert found.notes == (
        "asked for `_0` and 1 more",
        "decided by `use w4a8 for all` in a.qrecipe:1",
    )


def test_an_unknown_format_is_named_with_what_there_is():
    (found,) = capability_of("tflite")
    assert found.code.number == "QR290"
    assert len(FORMATS) == len(CAPABILITIES) == 4
