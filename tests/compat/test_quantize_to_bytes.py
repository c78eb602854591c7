import pytest
import torch

from qcompile.compat import quantize_to_bytes as module
from qcompile.compat.quantize_to_bytes import quantize_to_bytes

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
