"""What an augmentation does to the two streams of an input."""

import pytest
import torch

from qcompile.quant.augments.registry import AUGMENTS, augment

SHAPES = [(6, 8), (6, 5, 8), (6, 3, 7, 7), (6, 3, 4, 5, 5)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def inputs(shape):
    plain = torch.randn(shape, generator=generator(1), dtype=torch.float64)
    return plain + 0.25, plain


@pytest.mark.parametrize(("name", "draw"), AUGMENTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_both_streams_are_changed_alike(name, draw, shape):
    """What is added to one stream is added to the other: their difference stays."""
    quantized, plain = inputs(shape)
    moved, moved_plain = draw(6, 0.5, generator())(quantized, plain)
    assert torch.allclose(moved - moved_plain, quantized - plain)
    assert not torch.equal(moved_plain, plain)
    again, _ = draw(6, 0.5, generator())(quantized, plain)
    assert torch.equal(moved, again)


def test_noise_is_in_units_of_the_input():
    _, plain = inputs((400, 50))
    _, found = augment("noise")(400, 0.5, generator())(10 * plain, 10 * plain)
    assert (found / 10 - plain).std().item() == pytest.approx(0.5 * plain.std().item(), rel=0.02)


def test_mixup_lies_between_two_samples():
    x = torch.diag(torch.ones(6, dtype=torch.float64))
    mixed, _ = augment("mixup")(6, None, generator())(x, x)
    assert torch.allclose(mixed.sum(1), torch.ones(6, dtype=torch.float64))
    assert bool((mixed >= 0).all())
    assert int((mixed > 0).sum(1).max()) == 2


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_cutmix_replaces_a_box_in_the_positions_by_that_of_one_other_sample(shape):
    x = torch.arange(6.0).view(6, *[1] * (len(shape) - 1)).expand(shape).clone()
    seen = 0
    for seed in range(20):
        mixed, _ = augment("cutmix")(6, None, generator(seed))(x, x)
        moved = mixed != x
        if len(shape) > 3:
            assert torch.equal(moved.any(1), moved.all(1))  # whole channels
        rows = moved.flatten(1)
        for sample in range(6):
            values = mixed[sample].flatten()[rows[sample]].unique()
            assert len(values) <= 1
        # a box: the product of its extents along every axis
        if bool(rows.any()):
            box = moved[int(rows.any(1).nonzero()[0])]
            extent = 1
            for axis in range(box.dim()):
                others = [other for other in range(box.dim()) if other != axis]
                along = box.any(dim=others) if others else box
                extent *= int(along.sum())
            assert extent == int(box.sum())
            seen += 1
    assert seen > 10


def test_inputs_of_different_size_get_the_same_box():
    """A skip of twice the resolution: the box is where it is in the other."""
    small = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 2, 8, 8).clone()
    large = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 2, 16, 16).clone()
    change = augment("cutmix")(6, None, generator(3))
    a, _ = change(small, small)
    b, _ = change(large, large)
    wide = (a != small).repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert bool((a != small).any())
    assert ((b != large) ^ wide).double().mean() < 0.15


def test_without_an_augmentation_there_is_no_change():
    assert augment("none") is None
