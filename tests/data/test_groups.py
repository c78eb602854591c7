import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qcompile.data.groups import JUDGING, MOST, by_group
from qcompile.data.sampling import select_samples
from qcompile.data.source_kinds import MemorySource
from qcompile.diagnostics.codes import Code

ROWS = torch.arange(80.0).reshape(40, 2)
FIVE = torch.arange(40) % 5


def parted(groups=FIVE, content=None, batch=4, name="photo"):
    content = {"x": ROWS, "photo": groups} if content is None else content
    return select_samples("data", MemorySource(content), 40, batch, 1, name)


@given(st.lists(st.integers(0, 12), min_size=2, max_size=80).filter(lambda x: len(set(x)) > 1))
def test_groups_are_fitted_or_judge_and_no_sample_is_lost(groups):
    fitted, judging = by_group(groups)
    assert sorted(fitted + judging) == list(range(len(groups)))
    assert fitted
    assert judging
    assert not {groups[place] for place in fitted} & {groups[place] for place in judging}
    assert fitted == sorted(fitted)
    assert judging == sorted(judging)
    smallest = min(groups.count(group) for group in set(groups))
    assert len(judging) <= max(len(groups) / MOST, smallest)


def test_where_groups_are_small_an_eighth_judges():
    fitted, judging = by_group([place // 2 for place in range(64)])
    assert len(judging) * JUDGING == 64
    assert len(fitted) == 56


def test_the_first_groups_judge_and_one_that_is_large_does_not():
    groups = [7, 2, 7, 7, 3, 7, 7, 3, 7, 4, 4, 4]
    assert by_group(groups)[1] == [1, 4, 7]


def test_where_all_are_large_the_smallest_judges():
    assert by_group([0, 0, 0, 1, 1]) == ([0, 1, 2], [3, 4])


def test_the_last_batches_judge_and_the_groups_do_not_reach_the_model():
    chosen, problems = parted()
    assert problems == []
    assert chosen is not None
    assert chosen.groups is not None
    assert (chosen.groups.count, chosen.groups.judging) == (5, 1)
    assert chosen.groups.judging_batches == 2
    assert [len(batch["x"]) for batch in chosen.batches] == [4] * 10
    assert all(batch.keys() == {"x"} for batch in chosen.batches)
    judging = {FIVE[index].item() for index in chosen.indices[-8:]}
    assert len(judging) == 1
    assert judging.isdisjoint(FIVE[index].item() for index in chosen.indices[:-8])
    stacked = torch.cat([batch["x"] for batch in chosen.batches])
    assert torch.equal(stacked, ROWS[list(chosen.indices)])


def test_no_batch_has_samples_of_both_sides():
    chosen, _ = parted(batch=12)
    assert chosen is not None
    assert [len(batch["x"]) for batch in chosen.batches] == [12, 12, 8, 8]


def test_in_a_tuple_groups_come_last():
    chosen, _ = parted(content=(ROWS, torch.zeros(40), FIVE))
    assert chosen is not None
    assert all(len(batch) == 2 for batch in chosen.batches)


def test_the_hash_is_of_what_the_model_gets():
    first, second = parted(), parted(groups=FIVE + 7)
    assert first[0].sha256 == second[0].sha256


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"x": ROWS, "photos": FIVE}, "`data` has no tensor `photo`"),
        (ROWS, "`data` has one tensor, which the model takes"),
        ({"x": ROWS, "photo": FIVE.float()}, "`data` has float32 [40] in `photo`"),
        ({"x": ROWS, "photo": FIVE[:, None]}, "`data` has int64 [40, 1] in `photo`"),
        ({"x": ROWS, "photo": FIVE * 0}, "`data` has selected samples of one group only"),
    ],
)
def test_what_says_no_group_of_each_sample_is_refused(content, message):
    chosen, (problem,) = parted(content=content)
    assert chosen is None
    assert problem.code is Code.GROUPS
    assert message in problem.message
    assert problem.help


def test_a_misspelt_name_gets_the_right_one():
    _, (problem,) = parted(content={"x": ROWS, "photos": FIVE})
    assert problem.help == "did you mean `photos`?"
