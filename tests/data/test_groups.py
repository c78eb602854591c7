import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qcompile.data.groups import JUDGING, MOST, by_group, lacks_groups
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
    assert len(judging) <= len(groups) / 2
    others = sorted(groups.count(group) for group in {groups[place] for place in fitted})
    is_enough = JUDGING * len(judging) >= len(groups)
    assert is_enough or len(judging) + others[0] > len(groups) / 2
    assert len(judging) <= max(len(groups) / MOST, len(groups) / JUDGING + others[0])


def test_where_groups_are_small_an_eighth_judges():
    fitted, judging = by_group([place // 2 for place in range(64)])
    assert len(judging) * JUDGING == 64
    assert len(fitted) == 56


def test_the_first_groups_judge_and_one_that_is_large_does_not():
    groups = [7, 2, 7, 7, 3, 7, 7, 3, 7, 4, 4, 4]
    assert by_group(groups)[1] == [1, 4, 7]


def test_where_all_are_large_the_smallest_judges():
    assert by_group([0, 0, 0, 1, 1]) == ([0, 1, 2], [3, 4])


def test_a_small_group_does_not_judge_alone():
    fitted, judging = by_group([0, 1, 2] * 33 + [9])
    assert len(judging) == 34
    assert len(fitted) == 66


def test_the_last_batches_judge_and_the_groups_do_not_reach_the_model():
    chosen, problems = parted()
    assert problems == []
    assert chosen is not None
    assert chosen.groups is not None
    assert (chosen.groups.count, chosen.groups.judging) == (5, 1)
    assert chosen.groups.judging_samples == 8
    assert [len(batch["x"]) for batch in chosen.batches] == [4] * 10
    assert all(batch.keys() == {"x"} for batch in chosen.batches)
    judging = {FIVE[index].item() for index in chosen.indices[-8:]}
    assert len(judging) == 1
    assert judging.isdisjoint(FIVE[index].item() for index in chosen.indices[:-8])
    stacked = torch.cat([batch["x"] for batch in chosen.batches])
    assert torch.equal(stacked, ROWS[list(chosen.indices)])


def test_no_batch_has_samples_of_both_sides_and_none_is_small():
    chosen, _ = parted(batch=15)
    assert chosen is not None
    assert [len(batch["x"]) for batch in chosen.batches] == [11, 11, 10, 8]


def test_in_a_tuple_groups_come_last():
    chosen, _ = parted(content=(ROWS, torch.zeros(40), FIVE))
    assert chosen is not None
    assert all(len(batch) == 2 for batch in chosen.batches)


def test_the_hash_is_of_what_the_model_gets():
    first, second = parted(), parted(groups=FIVE + 7)
    assert first[0].sha256 == second[0].sha256


LACKING = [
    ({"x": ROWS, "photos": FIVE}, "`data` has no tensor `photo`"),
    ({"photo": FIVE, "label": FIVE}, "`data` has nothing beside `photo`"),
    (ROWS, "`data` has one tensor, which the model takes"),
    ((ROWS, FIVE), "`data` has 2 tensors, of which none is left for `groups`"),
]


@pytest.mark.parametrize(("content", "message"), LACKING)
def test_data_without_a_tensor_for_groups_is_refused(content, message):
    problem = lacks_groups(content, "photo", "label", "data")
    assert problem is not None
    assert problem.code is Code.GROUPS
    assert problem.message == message
    assert problem.help


def test_without_labels_the_last_of_two_tensors_has_the_groups():
    assert lacks_groups((ROWS, FIVE), "photo", None, "data") is None
    assert lacks_groups((ROWS, FIVE, FIVE), "photo", "label", "data") is None
    assert lacks_groups({"x": ROWS, "photo": FIVE}, "photo", "label", "data") is None


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (FIVE.float(), "`data` has float32 [40] in `photo`"),
        (FIVE[:, None], "`data` has int64 [40, 1] in `photo`"),
        (FIVE * 0, "`data` has 40 of 40 selected samples in one group"),
        ((torch.arange(40) < 38).long(), "`data` has 38 of 40 selected samples in one group"),
    ],
)
def test_numbers_that_part_nothing_are_refused(groups, message):
    chosen, (problem,) = parted(groups)
    assert chosen is None
    assert problem.code is Code.GROUPS
    assert message in problem.message
    assert problem.help


def test_a_misspelt_name_gets_the_right_one():
    problem = lacks_groups({"x": ROWS, "photos": FIVE}, "photo", None, "data")
    assert problem is not None
    assert problem.help == "did you mean `photos`?"
