import torch

from qcompile.data.input_check import check_batch, expected_inputs
from qcompile.diagnostics.codes import Code

IMAGES = {"x": (torch.float32, (None, 3, 224, 224))}


def test_any_batch_size_fits():
    expected = expected_inputs([("x", torch.zeros(2, 1, 28, 28))], {})
    for size in (1, 7):
        assert check_batch(torch.zeros(size, 1, 28, 28), expected) == []
    assert check_batch((torch.zeros(1, 1, 28, 28),), expected) == []
    assert check_batch({"x": torch.zeros(1, 1, 28, 28)}, expected) == []


def test_a_free_axis_takes_any_size():
    example = [("ids", torch.zeros(2, 16)), ("table", torch.zeros(2, 16))]
    expected = expected_inputs(example, {"ids": (0, 1)})
    assert expected["ids"][1] == (None, None)
    assert expected["table"][1] == (None, 16)


def test_a_wrong_shape_shows_both():
    (problem,) = check_batch(torch.zeros(32, 1, 28, 28), IMAGES)
    assert problem.code is Code.BATCH_MISMATCH
    assert problem.message == (
        "batch [32, 1, 28, 28] does not fit model input `x` [*, 3, 224, 224]"
    )


def test_a_wrong_rank_and_a_wrong_type_are_seen():
    (problem,) = check_batch(torch.zeros(3, 224, 224), IMAGES)
    assert problem.code is Code.BATCH_MISMATCH
    (problem,) = check_batch(torch.zeros(1, 3, 224, 224, dtype=torch.int64), IMAGES)
    assert problem.message == "batch of int64 does not fit model input `x` of float32"


def test_a_label_left_in_a_tuple_is_pointed_out():
    (problem,) = check_batch((torch.zeros(1, 3, 224, 224), torch.zeros(1)), IMAGES)
    assert problem.code is Code.BATCH_MISMATCH
    assert "labels" in (problem.help or "")


def test_keys_must_be_inputs_and_every_input_must_be_there():
    batch = {"input_id": torch.zeros(1, 4, dtype=torch.int64), "labels": torch.zeros(1)}
    expected = {"input_ids": (torch.int64, (None, None))}
    first, second, third = check_batch(batch, expected)
    assert first.help == "did you mean `input_ids`?"
    assert "labels" in second.message
    assert third.message == "the batch lacks the model input `input_ids`"
