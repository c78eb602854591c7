"""Which numbers of a value are padding, for values of every layout that a model has."""

import pytest
import torch

from qcompile.capture.positions import Layout
from qcompile.passes.padding import NO_PADDING, Padding

MASK = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0]]).bool()
BATCH = 1
SHAPES = [
    ((2, 4), Layout(0, 1)),
    ((2, 4, 3), Layout(0, 1)),
    ((4, 2, 3), Layout(1, 0)),
    ((2, 3, 4, 5), Layout(0, 2)),
    ((2, 4, 4, 5), Layout(0, 2)),
    ((2, 3, 5, 4), Layout(0, 3)),
    ((8, 3), Layout(0, 0)),
    ((8, 3), Layout(0, 0, positions_first=True)),
    ((3, 8, 5), Layout(1, 1)),
]


def padded(layout):
    return Padding((~MASK, MASK), {"x": layout})


def numbers(*shape):
    return torch.arange(1.0, torch.Size(shape).numel() + 1).view(shape)


def by_hand(value, layout, sample, position):
    """What ``value`` has there."""
    if not layout.is_merged:
        first, second = sorted([(layout.samples, sample), (layout.positions, position)])
        return value.select(second[0], second[1]).select(first[0], first[1])
    place = position * 2 + sample if layout.positions_first else sample * 4 + position
    return value.select(layout.samples, place)


@pytest.mark.parametrize(("shape", "layout"), SHAPES)
def test_own_positions_stand_side_by_side_and_axes_stay(shape, layout):
    value = numbers(*shape)
    made = padded(layout).kept(value, "x", BATCH)
    wanted = [
        by_hand(value, layout, s, t)
        for s, t in (
            [(s, t) for t in range(4) for s in range(2)]
            if layout.positions_first
            else [(s, t) for s in range(2) for t in range(4)]
        )
        if MASK[s, t]
    ]
    assert made.dim() == value.dim()
    rest = [axis for axis in range(value.dim()) if axis not in (layout.samples, layout.positions)]
    assert [made.shape[axis] for axis in rest] == [value.shape[axis] for axis in rest]
    if not layout.is_merged:
        made = made.select(layout.samples, 0)
    axis = layout.positions - (not layout.is_merged and layout.samples < layout.positions)
    assert torch.equal(made.movedim(axis, 0), torch.stack(wanted))


@pytest.mark.parametrize(("shape", "layout"), SHAPES)
def test_padding_is_silenced_in_place_of_being_taken_out(shape, layout):
    value = numbers(*shape)
    value[by_hand_mask(value, layout)] = torch.nan  # whatever is there
    made = padded(layout).silenced(value, "x", BATCH)
    assert made.shape == value.shape
    for s in range(2):
        for t in range(4):
            wanted = by_hand(value, layout, s, t) if MASK[s, t] else 0
            assert bool((by_hand(made, layout, s, t) == wanted).all())


def by_hand_mask(value, layout):
    found = torch.zeros_like(value, dtype=torch.bool)
    for s in range(2):
        for t in range(4):
            if not MASK[s, t]:
                by_hand(found, layout, s, t).fill_(True)
    return found


@pytest.mark.parametrize(("shape", "layout"), SHAPES)
def test_weights_of_rows_go_with_the_rows(shape, layout):
    value, padding = numbers(*shape), padded(layout)
    count = value.numel() // shape[-1]
    weights = numbers(1, count)
    rows = padding.kept_rows(value, "x", BATCH).reshape(-1, shape[-1])
    kept = padding.kept_weights(weights, value, "x", BATCH)
    assert kept.shape == (1, len(rows))
    assert torch.equal(kept[0], (rows[:, 0] - 1) / shape[-1] + 1)  # the number of a row, from 1 on


def test_rows_that_lie_along_positions_are_no_rows_of_positions():
    """A layer that mixes positions multiplies all of them."""
    value = numbers(2, 3, 4)
    padding = padded(Layout(0, 2))
    assert padding.kept_rows(value, "x", BATCH) is value
    assert not padding.has_rows(value, "x")


@pytest.mark.parametrize("padding", [NO_PADDING, padded(Layout(0, 1))])
def test_what_has_no_positions_stays_as_it_is(padding):
    value = numbers(2, 4, 3)
    assert padding.kept(value, "y", BATCH) is value
    assert padding.silenced(value, "y", BATCH) is value
    assert padding.kept_weights(value, value, "y", BATCH) is value


def test_batches_and_their_parts_have_masks_of_their_own():
    value, padding = numbers(2, 4, 3), padded(Layout(0, 1))
    assert padding.kept(value, "x", 0).shape == (1, 3, 3)
    assert padding.first(1).masks == padding.masks[:1]
    assert torch.equal(padding.of_samples(1, 1, 1).masks[0], MASK[1:])
    assert padding.of_samples(1, 0, None).masks[0] is MASK


def test_an_axis_of_channels_may_be_that_of_positions():
    value, padding = numbers(2, 4, 3), padded(Layout(0, 1))
    assert [padding.shares(axis, value, "x") for axis in (None, 0, 1, 2, -1, -2)] == [
        False,
        True,
        True,
        False,
        False,
        True,
    ]


def test_scores_of_attention_lose_what_is_looked_at_too():
    layout = Layout(0, 2, looked_at=3)
    value = numbers(2, 3, 4, 4)
    kept = padded(layout).kept(value, "x", BATCH)
    rows = [(s, t) for s in range(2) for t in range(4) if MASK[s, t]]
    for place, (s, t) in enumerate(rows):
        assert torch.equal(kept[0, :, place], value[s, :, t] * MASK[s])
    silenced = padded(layout).silenced(value, "x", BATCH)
    wanted = value * MASK[:, None, :, None] * MASK[:, None, None, :]
    assert torch.equal(silenced, wanted)
