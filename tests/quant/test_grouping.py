import pytest
import torch

from qcompile.policy.scheme import PerChannel, PerGroup, PerTensor
from qcompile.quant.grouping import grouping, grouping_of_scale

GRANULARITIES = [PerTensor(), PerChannel(), PerChannel(axis=1), PerGroup(size=2)]


@pytest.mark.parametrize("granularity", GRANULARITIES, ids=str)
@pytest.mark.parametrize("output_axis", [0, 1])
def test_restore_is_the_inverse_of_view(granularity, output_axis):
    weight = torch.randn(4, 6, 2, 3)
    view = grouping(granularity, (4, 6, 2, 3), output_axis)
    back = view.restore(view.view(weight))
    assert torch.equal(back, weight)
    assert back.is_contiguous()


def test_a_group_is_a_run_of_neighbours_in_an_output_row():
    weight = torch.arange(24.0).reshape(2, 3, 4)
    view = grouping(PerGroup(size=6), (2, 3, 4), 0)
    assert view.view(weight)[1, 0].tolist() == [12, 13, 14, 15, 16, 17]
    transposed = grouping(PerGroup(size=3), (6, 2), 1)
    assert transposed.view(torch.arange(12.0).reshape(6, 2))[1, 0].tolist() == [1, 3, 5]


def test_a_channel_is_an_index_of_its_axis():
    weight = torch.randn(4, 5, 3)
    view = grouping(PerChannel(axis=1), (4, 5, 3), 0)
    assert view.scale_shape == (5,)
    assert torch.equal(view.view(weight)[2, 0], weight[:, 2].reshape(-1))


@pytest.mark.parametrize("granularity", GRANULARITIES, ids=str)
def test_the_scale_on_disk_tells_the_grouping(granularity):
    view = grouping(granularity, (4, 6, 2), 1)
    assert grouping_of_scale(view.scale_shape, (4, 6, 2), view.axis) == view


def test_a_group_size_that_does_not_divide_the_row_is_refused():
    with pytest.raises(ValueError, match="do not fit"):
        grouping(PerGroup(size=4), (2, 6), 0)
