import pytest
import torch

from qcompile.quant.sampling import sample


def test_a_small_value_is_taken_whole():
    batches = [torch.randn(3, 4, 5), torch.randn(2, 4, 7)]
    found = sample(batches, None)
    assert torch.equal(found.values, torch.cat([b.reshape(1, -1) for b in batches], dim=1))
    by_channel = sample(batches, 1)
    assert by_channel.values.shape == (4, 3 * 5 + 2 * 7)
    assert torch.equal(by_channel.values[2, :15], batches[0][:, 2].reshape(-1))


def test_a_large_value_is_sampled_within_the_limit_and_keeps_its_range():
    x = torch.randn(64, 96)
    x[17, 33], x[40, 1] = 50.0, -60.0
    found = sample([x], None, limit=500)
    assert 200 <= found.values.numel() <= 500
    assert (found.low.item(), found.high.item()) == (-60.0, 50.0)


def test_the_stride_visits_every_channel():
    x = torch.arange(384.0).expand(200, 384)
    found = sample([x], None, limit=200 * 384 // 64)
    assert found.values.unique().numel() == 384


def test_sampling_is_deterministic():
    x = torch.randn(100, 100)
    assert torch.equal(sample([x], None, 77).values, sample([x], None, 77).values)


def test_an_empty_batch_adds_nothing_and_nothing_is_refused():
    x = torch.randn(2, 3)
    assert torch.equal(sample([x, torch.empty(0, 3)], None).values, sample([x], None).values)
    with pytest.raises(ValueError, match="no element"):
        sample([torch.empty(0, 3)], None)
