import pytest
import torch

from qcompile.quant.fake_quantize import (
    fake_quantize,
    fake_quantize_dynamic,
    fake_quantize_e4m3,
)
from qcompile.quant.level_grid import LevelGrid
from qcompile.quant.levels import float_levels


def reference(x, scale, zero_point, qmin, qmax):
    """One number at a time, in double precision."""
    code = min(max(round(x / scale) + zero_point, qmin), qmax)
    return scale * (code - zero_point)


def test_per_channel_follows_the_axis():
    x = torch.linspace(-4, 4, 24).reshape(2, 3, 4)
    scale = torch.tensor([0.25, 0.5, 1.0])
    zero_point = torch.tensor([3, 8, 12], dtype=torch.uint8)
    found = fake_quantize(x, scale, zero_point, 0, 15, 1)
    for index in torch.cartesian_prod(*[torch.arange(n) for n in x.shape]).tolist():
        b, c, k = index
        wanted = reference(x[b, c, k].item(), scale[c].item(), int(zero_point[c]), 0, 15)
        assert found[b, c, k].item() == wanted
    assert torch.equal(fake_quantize(x, scale, zero_point, 0, 15, -2), found)


def test_the_stored_zero_point_is_offset_by_qmin():
    x = torch.linspace(-4, 4, 33)
    unsigned = fake_quantize(
        x, torch.tensor([0.5]), torch.tensor([7], dtype=torch.uint8), 0, 15, None
    )
    signed = fake_quantize(
        x, torch.tensor([0.5]), torch.tensor([7], dtype=torch.uint8), -8, 7, None
    )
    assert torch.equal(unsigned, signed)


def test_no_zero_point_is_a_symmetric_grid():
    x = torch.tensor([-9.0, -0.6, 0.4, 9.0])
    assert fake_quantize(x, torch.ones(1), None, -8, 7, None).tolist() == [-8.0, -1.0, 0.0, 7.0]


@pytest.mark.parametrize("symmetric", [True, False])
def test_each_token_is_quantized_for_itself(symmetric):
    x = torch.randn(2, 3, 16) * torch.tensor([0.01, 1.0, 100.0])[:, None]
    qmin, qmax = (-8, 7) if symmetric else (0, 15)
    found = fake_quantize_dynamic(x, qmin, qmax, symmetric, per_token=True)
    for b in range(2):
        for t in range(3):
            alone = fake_quantize_dynamic(x[b, t], qmin, qmax, symmetric, per_token=False)
            assert torch.equal(found[b, t], alone)
            width = float(x[b, t].clamp(min=0).max() - x[b, t].clamp(max=0).min())
            step = float(x[b, t].abs().max()) / 7 if symmetric else width / 15
            assert float((found[b, t] - x[b, t]).abs().max()) <= step / 2 * (1 + 1e-5)


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_share_of_the_range_of_a_token_is_covered(symmetric):
    x = torch.randn(3, 64) * torch.tensor([0.01, 1.0, 100.0])[:, None]
    qmin, qmax = (-8, 7) if symmetric else (0, 15)
    found = fake_quantize_dynamic(x, qmin, qmax, symmetric, per_token=True, share=0.8)
    low, high = (0.8 * end for end in x.aminmax(dim=1, keepdim=True))
    if symmetric:
        low, high = (torch.maximum(high / 7, -low / 8) * code for code in (-8, 7))
    step = (high - low) / 15
    inside = (x > low) & (x < high)
    assert 0 < int((~inside).sum()) < x.numel() / 8
    off = (found - x).abs()
    assert bool((off <= step / 2 * (1 + 1e-5))[inside].all())
    nearest_end = torch.where(x > 0, high, low)
    assert bool(((found - nearest_end).abs() <= step / 2 * (1 + 1e-5))[~inside].all())
    whole = fake_quantize_dynamic(x, qmin, qmax, symmetric, per_token=True)
    assert torch.equal(
        fake_quantize_dynamic(x, qmin, qmax, symmetric, per_token=True, share=1.0), whole
    )


def test_an_empty_input_passes_through():
    assert fake_quantize_dynamic(torch.empty(0, 4), -8, 7, True, False).shape == (0, 4)


def test_half_precision_is_computed_in_float32():
    x = torch.randn(64).to(torch.bfloat16)
    wanted = fake_quantize(x.float(), torch.tensor([0.1]), None, -128, 127, None)
    found = fake_quantize(x, torch.tensor([0.1]), None, -128, 127, None)
    assert torch.equal(found, wanted.to(torch.bfloat16))


@pytest.mark.parametrize("per_token", [True, False])
def test_small_floats_are_the_nearest_levels_of_the_scale_that_covers(per_token):
    x = torch.randn(5, 7, 33, generator=torch.Generator().manual_seed(0)) * 3
    x[0, 0] = 0
    largest = x.abs().amax(-1, keepdim=True) if per_token else x.abs().amax()
    scale = torch.where(largest == 0, 1.0, largest / 448)
    grid = LevelGrid(float_levels("e4m3"), scale)
    expected = grid.dequantize(grid.quantize(x))
    assert torch.equal(fake_quantize_e4m3(x, per_token).abs(), expected.abs())  # -0 is 0
    assert torch.equal(fake_quantize_e4m3(x, per_token), expected + 0.0)


def test_small_floats_of_nothing_of_little_and_of_half_precision():
    assert fake_quantize_e4m3(torch.zeros(0, 4), True).shape == (0, 4)
    tiny = torch.tensor([[1e-44, -1e-44, 0.0]])
    assert fake_quantize_e4m3(tiny, True).isfinite().all()
    assert fake_quantize_e4m3(torch.ones(2, dtype=torch.bfloat16), False).dtype == torch.bfloat16
