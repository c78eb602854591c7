"""The programs of a budget against brute force: least loss, fewest bytes, and of these the best."""

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompile.driver.allotment import Programme
from qcompile.passes.loss_increase import OUT_OF_RANGE

LOSS = st.one_of(
    st.just(0.0), st.just(OUT_OF_RANGE), st.integers(1, 10**6).map(lambda units: units * 1e-6)
)
"""Apart by more than what is lost in rounding."""


def total(table, taken):
    return sum(row[at] for row, at in zip(table, taken, strict=True))


def is_allowed(programme, taken):
    loss = total(programme.losses, taken)
    keeps = (loss < most if is_strict else loss <= most for most, is_strict in programme.most)
    fits = (
        sum(rungs[at][place] for rungs, at in zip(programme.costs, taken, strict=True)) <= room
        for place, room in enumerate(programme.rooms)
    )
    return all(keeps) and all(fits)


def every_choice(programme):
    for taken in product(*(range(len(row)) for row in programme.losses)):
        if is_allowed(programme, taken):
            yield taken


def counted(programme, taken):
    """Bytes of what was measured."""
    rows = zip(programme.losses, programme.sizes, taken, strict=True)
    return sum(sizes[at] for losses, sizes, at in rows if any(losses))


@st.composite
def programmes(draw):
    rungs = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    sizes = st.integers(0, 1_000_000)
    losses = [draw(st.lists(LOSS, min_size=count, max_size=count)) for count in rungs]
    limit = draw(st.integers(0, 2))
    costs = [
        [tuple(draw(st.lists(sizes, min_size=limit, max_size=limit))) for _ in range(count)]
        for count in rungs
    ]
    rooms = draw(st.lists(st.integers(0, 2_000_000), min_size=limit, max_size=limit))
    kept = [draw(st.integers(0, count - 1)) for count in rungs]
    exact = total(losses, kept)  # the sum of a choice, to the last bit, is the hardest limit
    most = draw(st.sampled_from([min(exact, 10.0), 1.5 * min(exact, 10.0), 0.0]))
    return Programme(
        losses=losses,
        sizes=[draw(st.lists(sizes, min_size=count, max_size=count)) for count in rungs],
        costs=costs,
        rooms=tuple(rooms),
        most=((most, draw(st.booleans())),),
    )


@settings(max_examples=150, deadline=None)
@given(programmes())
def test_no_choice_has_fewer_bytes_and_none_of_these_a_smaller_loss(programme):
    found = programme.fewest_bytes()
    allowed = list(every_choice(programme))
    assert (found is None) == (not allowed)
    if found is None:
        return
    assert is_allowed(programme, found.taken)
    fewest = min(counted(programme, taken) for taken in allowed)
    assert counted(programme, found.taken) == fewest == found.bound
    best = min(
        total(programme.losses, taken) for taken in allowed if counted(programme, taken) == fewest
    )
    assert total(programme.losses, found.taken) == pytest.approx(best, rel=1e-6, abs=1e-9)
    for row, at in zip(programme.losses, found.taken, strict=True):
        assert any(row) or programme.rooms or at == len(row) - 1, "not measured: the most bits"


@settings(max_examples=100, deadline=None)
@given(programmes())
def test_no_choice_has_a_smaller_loss(programme):
    found = programme.least_loss()
    allowed = [total(programme.losses, taken) for taken in every_choice(programme)]
    assert (found is None) == (not allowed)
    if found is not None:
        assert is_allowed(programme, found.taken)
        loss = total(programme.losses, found.taken)
        assert loss == pytest.approx(min(allowed), rel=1e-6, abs=1e-9)
        assert found.bound == loss


def of(losses, sizes, most, *, is_strict=False):
    return Programme(losses, sizes, [[()] * len(row) for row in losses], (), ((most, is_strict),))


def test_a_limit_that_is_just_the_least_sum_is_kept():
    losses = [[0.1, 0.011], [0.2, 0.013], [0.3, 0.017]]
    sizes = [[1, 2]] * 3
    least = 0.011 + 0.013 + 0.017
    assert of(losses, sizes, least).fewest_bytes().taken == (1, 1, 1)
    assert of(losses, sizes, least, is_strict=True).fewest_bytes() is None


def test_one_rung_beyond_all_bounds_is_left_out():
    losses = [[OUT_OF_RANGE, 2e-5], [4e-4, 1e-5], [3e-4, 1e-5]]
    assert of(losses, [[1, 9], [1, 2], [1, 3]], 5e-4).fewest_bytes().taken == (1, 1, 0)


@pytest.mark.parametrize("first", [[1e-310, 0.0], [1.0, 0.0]])
def test_a_limit_may_be_next_to_nothing(first):
    assert of([first], [[1, 2]], 1e-320).fewest_bytes().taken == (1,)


def test_of_two_layers_of_one_shape_the_right_one_is_small():
    sizes = [[1, 2], [1, 2]]
    for losses, taken in (([[0.1, 0.0], [0.3, 0.0]], (0, 1)), ([[0.3, 0.0], [0.1, 0.0]], (1, 0))):
        assert of(losses, sizes, 0.35).fewest_bytes().taken == taken


def test_sizes_that_are_almost_the_same_are_no_trap():
    """The second program's limit is what the first one found, to the byte."""
    losses = [[0.1, 0.05, 0.0]] * 6
    sizes = [[10**8 + n, 10**8 + n + 1, 10**8 + 2 * n + 3] for n in range(6)]
    found = of(losses, sizes, 0.35).fewest_bytes()
    assert counted(of(losses, sizes, 1), found.taken) == found.bound
