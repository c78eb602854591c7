"""Mirror images beside images."""

import pytest
import torch

from qcompile.data.flips import drawn_a_batch, unfit_flips, with_flips
from qcompile.diagnostics.codes import Code


def images(*shape):
    return torch.arange(torch.Size(shape).numel(), dtype=torch.float32).view(shape)


@pytest.mark.parametrize(("flip", "axis"), [("horizontal", -1), ("vertical", -2)])
def test_mirror_images_are_behind_the_images(flip, axis):
    x = images(3, 2, 6, 5)
    found = with_flips(x, flip)
    assert torch.equal(found, torch.cat([x, x.flip(axis)]))
    assert found.is_contiguous()


def test_what_is_no_image_is_there_twice():
    batch = {
        "x": images(2, 1, 5, 5),
        "sizes": images(2, 7),
        "label": torch.tensor([4, 5]),
        "ids": torch.arange(16 * 2).view(2, 1, 2, 8),
    }
    found = with_flips(batch, "horizontal")
    assert torch.equal(found["x"][2:], batch["x"].flip(-1))
    for name in ("sizes", "label", "ids"):
        assert torch.equal(found[name], torch.cat([batch[name]] * 2))


def test_half_of_a_batch_is_drawn():
    assert drawn_a_batch(32, None) == 32
    assert [drawn_a_batch(size, "vertical") for size in (1, 2, 5, 32)] == [1, 1, 2, 16]


@pytest.mark.parametrize(
    "inputs",
    [
        images(2, 8),
        torch.zeros(2, 3, 8, 8, dtype=torch.uint8),
        {"ids": torch.zeros(2, 9, dtype=torch.int64)},
        images(2, 8, 8, 3),
    ],
    ids=["rows", "bytes", "ids", "channels last"],
)
def test_data_without_images_is_refused(inputs):
    problem = unfit_flips("data", inputs, 8)
    assert problem is not None
    assert problem.code is Code.FLIP
    assert "[samples, channels, height, width]" in problem.help


def test_images_among_others_are_enough():
    assert unfit_flips("data", {"ids": torch.zeros(2, 9), "x": images(2, 3, 8, 8)}, 8) is None


def test_a_mask_of_the_form_of_images_is_not_mirrored_unseen():
    inputs = {"x": images(2, 3, 8, 8), "mask": torch.zeros(2, 1, 6, 6)}
    problem = unfit_flips("data", inputs, 8)
    assert problem is not None
    assert "more than one input" in problem.message


@pytest.mark.parametrize("size", [1, 5])
def test_an_odd_batch_is_refused(size):
    problem = unfit_flips("data", images(2, 3, 8, 8), size)
    assert problem is not None
    assert problem.help == "write an even `batch`"
