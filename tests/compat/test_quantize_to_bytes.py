import pytest
import torch

from qcompile.compat import quantize_to_bytes as module
from qcompile.compat.quantize_to_bytes import quantize_to_bytes, quantize_to_floats

SCALE, ZERO = 0.0625, 100
EDGES = [-1e30, float("-inf"), -6.3, -6.25, 0.0, 0.03, 9.6875, 9.7, float("inf")]


@pytest.mark.parametrize("fast", [True, False])
def test_codes_are_rounded_and_saturated(monkeypatch, fast):
    if not fast:
        monkeypatch.setattr(module, "_has_quantized_dtypes", lambda: False)
    found = quantize_to_bytes(torch.tensor(EDGES), SCALE, ZERO)
    assert found.dtype == torch.uint8
    assert found.tolist() == [0, 0, 0, 0, 100, 100, 255, 255, 255]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_both_ways_agree_and_keep_the_layout(monkeypatch, layout):
    x = torch.randn(2, 5, 7, 3, generator=torch.Generator().manual_seed(0))
    x = x.contiguous(memory_format=layout)
    fast = quantize_to_bytes(x, SCALE, ZERO)
    monkeypatch.setattr(module, "_has_quantized_dtypes", lambda: False)
    slow = quantize_to_bytes(x, SCALE, ZERO)
    assert torch.equal(fast, slow)
    assert fast.stride() == slow.stride() == x.stride()


def test_an_empty_tensor_stays_empty():
    assert quantize_to_bytes(torch.zeros(0, 4), SCALE, ZERO).shape == (0, 4)


GRIDS = [(0.0231, 0), (0.0371, 113), (0.0617, 200), (0.1, 3)]


@pytest.mark.parametrize(("scale", "zero_point"), GRIDS)
def test_both_ways_round_the_same_middles(monkeypatch, scale, zero_point):
    """Numbers next to the middle between two codes, where a last bit decides."""
    scale = torch.tensor(scale).item()
    middles = (torch.arange(256) + 0.5 - zero_point) * scale
    x = torch.cat([middles, *(_neighbours(middles, side) for side in (-1.0, 1.0))])
    fast = quantize_to_bytes(x, scale, zero_point)
    floats = quantize_to_floats(x, scale, zero_point)
    monkeypatch.setattr(module, "_has_quantized_dtypes", lambda: False)
    slow = quantize_to_bytes(x, scale, zero_point)
    assert torch.equal(fast, slow)
    assert torch.equal(fast, floats.to(torch.uint8))
    exact = (x.double() / scale + zero_point).clamp(0, 255)
    assert (fast - exact).abs().amax() <= 0.5 + 2e-5


def _neighbours(x, side):
    for _ in range(2):
        x = torch.nextafter(x, torch.full_like(x, side * 1e9))
    return x


def test_no_number_has_no_code_in_floats():
    found = quantize_to_floats(torch.tensor([float("nan"), 7.0]), SCALE, ZERO, 15)
    assert found.isnan().tolist() == [True, False]
    assert found[1] == 15
