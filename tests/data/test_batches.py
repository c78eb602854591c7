import numpy as np
import pytest
import torch

from qcompile.data.batches import (
    as_batch,
    content_sha256,
    join,
    join_problem,
    model_arguments,
    row_problem,
    rows,
    slice_rows,
    split_off,
    take_rows,
)

X = torch.arange(12.0).reshape(4, 3)
Y = torch.tensor([0, 1, 2, 3])


def test_tensors_tuples_and_dicts_are_batches_and_nothing_else_is():
    assert as_batch(X) is X
    assert as_batch([X, Y]) == (X, Y)
    assert as_batch({"x": X}) == {"x": X}
    for other in (None, [], {}, [X, 1], {"x": [1]}, {1: X}, np.zeros(3), "x"):
        assert as_batch(other) is None


@pytest.mark.parametrize("batch", [X, (X, Y), {"x": X, "y": Y}])
def test_rows_are_the_first_dimension(batch):
    assert rows(batch) == 4
    assert row_problem(batch) is None


def test_tensors_must_agree_on_rows():
    assert "`1` [2]" in (row_problem((X, Y[:2])) or "")
    assert "without dimensions" in (row_problem({"x": torch.tensor(1.0)}) or "")


def test_labels_are_split_off_by_key_or_as_last_element():
    inputs, labels = split_off({"x": X, "y": Y}, "y")
    assert list(inputs) == ["x"]
    assert labels is Y
    inputs, labels = split_off((X, Y), "label")
    assert isinstance(inputs, tuple)
    assert inputs[0] is X
    assert labels is Y
    assert split_off(X, "y") == (X, None)
    assert split_off((X,), "y") == ((X,), None)
    assert split_off({"x": X}, "y") == ({"x": X}, None)
    assert split_off((X, Y), None) == ((X, Y), None)


def test_a_batch_becomes_arguments():
    assert model_arguments(X) == ((X,), {})
    assert model_arguments((X, Y)) == ((X, Y), {})
    assert model_arguments({"x": X}) == ((), {"x": X})


@pytest.mark.parametrize("batch", [X, (X, Y), {"x": X, "y": Y}])
def test_slices_joined_are_the_whole(batch):
    parts = [slice_rows(batch, 0, 1), slice_rows(batch, 1, 4)]
    assert join_problem(parts) is None
    assert type(join(parts)) is type(batch)
    assert content_sha256(join(parts)) == content_sha256(batch)


def test_batches_of_other_shapes_or_keys_do_not_join():
    assert "[3] and [2]" in (join_problem([X, X[:, :2]]) or "")
    assert "`x` and `y`" in (join_problem([{"x": X}, {"y": X}]) or "")


def test_rows_are_taken_in_the_order_asked_for():
    taken = take_rows({"y": Y}, [3, 0])
    assert isinstance(taken, dict)
    assert taken["y"].tolist() == [3, 0]


def test_content_hash_sees_type_name_shape_and_value():
    base = content_sha256({"x": X})
    assert content_sha256({"x": X.clone()}) == base
    others = [{"y": X}, {"x": X.reshape(4, 1, 3)}, {"x": X + 1}, {"x": X.view(torch.int32)}]
    assert all(content_sha256(other) != base for other in others)
    assert content_sha256({"a": X, "b": Y}) == content_sha256({"b": Y, "a": X})
