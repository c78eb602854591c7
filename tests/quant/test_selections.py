"""Which weights may move."""

import pytest
import torch

from qcompile.methods.axes import Select
from qcompile.quant.selections.candidate import Candidate
from qcompile.quant.selections.registry import movable


def candidate(position, weight=None, size=1.0):
    position = torch.tensor(position)
    return Candidate(
        weight=position if weight is None else torch.tensor(weight),
        position=position,
        input_size=torch.tensor(size),
        generator=torch.Generator().manual_seed(0),
    )


def chosen(select, of):
    return movable(select, of).nonzero().flatten().tolist()


def test_near_threshold_takes_those_next_to_the_middle_between_two_codes():
    of = candidate([0.1, 0.45, 0.9, -0.5, 3.0, -1.42])
    assert chosen(Select("near_threshold", 0.5), of) == [1, 3, 5]


def test_salient_takes_large_weights_of_large_inputs():
    of = candidate([0.0] * 4, weight=[1.0, -3.0, 2.0, 0.5], size=[1.0, 1.0, 0.1, 8.0])
    assert chosen(Select("salient", 0.5), of) == [1, 3]
    plain = candidate([0.0] * 4, weight=[1.0, -3.0, 2.0, 0.5])
    assert chosen(Select("salient", 0.5), plain) == [1, 2]


def test_random_is_by_lot_and_by_seed():
    of = candidate([0.0] * 1000)
    first = chosen(Select("random", 0.3), of)
    assert len(first) == 300
    assert first == chosen(Select("random", 0.3), candidate([0.0] * 1000))
    assert first != chosen(Select("random", 0.3), of)  # the generator has moved on


@pytest.mark.parametrize("name", ["near_threshold", "salient", "random"])
def test_a_share_of_all_is_all_and_of_next_to_nothing_one(name):
    of = candidate([0.2, 0.5, 0.7])
    assert bool(movable(Select(name, 1.0), of).all())
    assert int(movable(Select(name, 1e-6), of).sum()) == 1
    with pytest.raises(ValueError, match="share"):
        Select(name, 0.0)


def test_all_needs_no_mask():
    assert movable(Select("all"), candidate([0.2])) is None
