from dataclasses import replace

import pytest
import torch

from qcompile.policy.scheme import (
    IntFormat,
    MinMax,
    PerChannel,
    PerGroup,
    PerTensor,
    QuantSlot,
    SignedMse,
)
from qcompile.policy.size import weight_bytes
from qcompile.quant.grouping import grouping
from qcompile.quant.packing import unpack
from qcompile.quant.quantized_weight import encode, from_tensors, quantize_weight
from qcompile.quant.range_search import weight_range

GRANULARITIES = [PerTensor(), PerChannel(), PerChannel(axis=1), PerGroup(size=3)]


def slot(bits, granularity, symmetric, signed):
    return QuantSlot(
        format=IntFormat(bits=bits, signed=signed),
        symmetric=symmetric,
        granularity=granularity,
        observer=MinMax(),
    )


def quantized(weight, spec, output_axis=0):
    return quantize_weight(weight, spec, output_axis, weight_range(weight, spec, output_axis))


@pytest.mark.parametrize("granularity", GRANULARITIES, ids=str)
@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("output_axis", [0, 1])
@pytest.mark.parametrize(
    ("symmetric", "signed"), [(True, True), (False, False), (False, True), (True, False)]
)
def test_disk_holds_the_codes_and_the_forecast_bytes(
    granularity, bits, output_axis, symmetric, signed
):
    spec = slot(bits, granularity, symmetric, signed)
    weight = torch.randn(5, 3, 3, generator=torch.Generator().manual_seed(bits))
    weight = weight if output_axis == 0 else weight.transpose(0, 1).contiguous()
    shape = tuple(weight.shape)
    grid = weight_range(weight, spec, output_axis)
    view = grouping(granularity, shape, output_axis)
    wanted = view.restore(grid.fake_quantize(view.view(weight)))
    found = quantize_weight(weight, spec, output_axis, grid)
    assert torch.equal(found.dequantize(torch.float32), wanted)
    assert found.nbytes == weight_bytes(spec, shape, output_axis)
    assert found.scale.dtype == torch.float32
    assert (found.zero_point is None) == symmetric
    again = from_tensors(found.tensors("w"), "w", spec, shape, output_axis)
    assert torch.equal(again.dequantize(torch.float32), wanted)


def test_names_and_scale_shapes_on_disk():
    weight = torch.randn(4, 6)
    found = quantized(weight, slot(4, PerGroup(size=3), False, False)).tensors("a.weight")
    assert list(found) == ["a.weight:codes", "a.weight:scale", "a.weight:zero_point"]
    assert found["a.weight:scale"].shape == found["a.weight:zero_point"].shape == (4, 2)
    assert found["a.weight:zero_point"].dtype == found["a.weight:codes"].dtype == torch.uint8
    channel = quantized(weight, slot(4, PerChannel(), True, True)).tensors("w")
    assert channel["w:scale"].shape == (4,)
    tensor = quantized(weight, slot(4, PerTensor(), True, True)).tensors("w")
    assert tensor["w:scale"].shape == (1,)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_turned_grid_is_stored_as_a_negative_scale(bits):
    """No zero points: a reader multiplies codes by scales, as of every symmetric weight."""
    weight = torch.randn(6, 8, generator=torch.Generator().manual_seed(bits))
    spec = replace(slot(bits, PerGroup(size=4), True, True), observer=SignedMse())
    grid = weight_range(weight, spec, 0)
    found = quantize_weight(weight, spec, 0, grid)
    view = grouping(spec.granularity, (6, 8), 0)
    assert found.zero_point is None
    assert torch.equal(found.scale < 0, (grid.zero_point == -1).view(6, 2))
    assert 0 < int((found.scale < 0).sum()) < 12
    numbers = grid.fake_quantize(view.view(weight))
    assert torch.equal(view.view(found.dequantize(torch.float32)), numbers)
    largest = view.view(weight).abs().argmax(-1, keepdim=True)
    stored = view.view(unpack(found.packed, bits, 48).view(6, 8)).gather(-1, largest)
    assert (stored == 0).any()  # the code without an opposite is used


@pytest.mark.parametrize("observer", [MinMax(), SignedMse()])
@pytest.mark.parametrize("symmetric", [True, False])
def test_what_was_encoded_is_decoded(observer, symmetric):
    weight = torch.randn(6, 8, generator=torch.Generator().manual_seed(1))
    spec = slot(4, PerGroup(size=4), symmetric, signed=True)
    spec = replace(spec, observer=observer) if symmetric else spec
    grid = weight_range(weight, spec, 0)
    codes, again = quantize_weight(weight, spec, 0, grid).decoded()
    assert torch.equal(again.scale, grid.scale)
    assert torch.equal(again.zero_point, grid.zero_point)
    view = grouping(spec.granularity, (6, 8), 0)
    assert torch.equal(codes, grid.quantize(view.view(weight)))


def test_signed_codes_are_stored_offset_by_their_minimum():
    weight = torch.tensor([[-8.0, -1.0, 0.0, 7.0]])
    found = quantized(weight, slot(4, PerTensor(), True, True))
    # codes -8, -1, 0, 7 are stored as 0, 7, 8, 15, the first in the low half of a byte
    assert found.packed.tolist() == [0x70, 0xF8]


def test_dequantize_gives_the_dtype_asked_for():
    found = quantized(torch.randn(4, 6), slot(4, PerChannel(), True, True))
    half = found.dequantize(torch.bfloat16)
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, found.dequantize(torch.float32).to(torch.bfloat16))


def test_codes_of_a_float64_grid_cannot_be_stored():
    spec = slot(4, PerTensor(), True, True)
    weight = torch.randn(2, 2)
    grid = weight_range(weight, spec, 0)
    wide = type(grid)(grid.scale.double(), grid.zero_point.double(), grid.qmin, grid.qmax)
    with pytest.raises(ValueError, match="float64"):
        encode(wide.quantize(weight.reshape(1, 1, 4)), wide, spec, (2, 2), 0)
