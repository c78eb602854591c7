"""The least loss within limits, against brute force and reference values."""

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompile.analysis.allocation import Option, allocate

ELEMENTS = (100, 400, 50, 200, 300)
BITS = (2, 3, 4, 8)
LOSSES = ((9, 2, 0.5, 0), (3, 1, 0.2, 0), (20, 6, 1, 0), (5, 2.5, 0.6, 0), (4, 0.8, 0.1, 0))
TOY = [
    [Option(loss, (count * bits,)) for loss, bits in zip(losses, BITS, strict=True)]
    for count, losses in zip(ELEMENTS, LOSSES, strict=True)
]


def spent(groups, taken, resource=0):
    return sum(group[at].costs[resource] for group, at in zip(groups, taken, strict=True))


@pytest.mark.parametrize(
    ("average", "loss", "bits", "found_average"),
    [
        (2.5, 11.0, (4, 2, 4, 3, 2), 2.476190),
        (3, 5.9, (4, 2, 4, 4, 3), 2.952381),
        (4, 2.1, (4, 4, 8, 4, 3), 3.904762),
    ],
)
def test_reference_values(average, loss, bits, found_average):
    found = allocate(TOY, [int(average * sum(ELEMENTS))])
    assert found.loss == pytest.approx(loss)
    assert found.bound == found.loss
    assert tuple(BITS[at] for at in found.taken) == bits
    assert spent(TOY, found.taken) / sum(ELEMENTS) == pytest.approx(found_average, abs=1e-6)


def test_out_of_reach_is_nothing():
    assert allocate(TOY, [2 * sum(ELEMENTS) - 1]) is None
    assert allocate(TOY, [2 * sum(ELEMENTS)]).taken == (0, 0, 0, 0, 0)


def test_no_group_is_no_choice():
    assert allocate([], [5]).taken == ()


@pytest.mark.parametrize("tiny", [1e-300, 5.6e-22, 1e-12, 1e-6])
@pytest.mark.parametrize("large", [1e-5, 1.0, 1e6])
def test_losses_of_all_sizes_are_told_apart(tiny, large):
    """The first option costs next to nothing, and is too dear."""
    found = allocate([[Option(tiny, (1,)), Option(large, (0,))]], [0])
    assert found.taken == (1,)
    assert found.loss == found.bound == large


def test_an_outlier_does_not_drown_what_is_small():
    """One option of a million nats, and others that differ by a millionth."""
    outlier = [Option(1e6, (0,)), Option(1e-3, (10,))]
    close = [[Option(2e-6 * n, (0,)), Option(1e-6 * n, (1,))] for n in (1, 2, 3, 4)]
    found = allocate([outlier, *close], [12])
    assert found.taken == (1, 0, 0, 1, 1)
    assert found.bound == found.loss


def test_a_cost_beyond_the_limit_does_not_drown_the_others():
    groups = [[Option(3.0, (0,)), Option(0.0, (10**15,))]]
    groups += [[Option(float(n), (0,)), Option(0.0, (n,))] for n in (1, 2, 3)]
    found = allocate(groups, [4])
    assert found.taken[0] == 0
    assert found.loss == 5.0
    assert spent(groups, found.taken) == 4


def test_hundreds_of_millions_are_counted_to_the_last_unit():
    groups = [[Option(1.0, (0,)), Option(0.0, (size,))] for size in (10**8 + 1, 10**8, 3)]
    assert allocate(groups, [10**8]).loss == 2.0
    assert allocate(groups, [10**8 + 2]).loss == 2.0
    assert allocate(groups, [10**8 + 3]).loss == 1.0


@st.composite
def problems(draw):
    resources = draw(st.integers(1, 2))
    options = st.builds(
        Option,
        st.floats(0, 10).map(lambda x: x**6 / 1e5),  # over many orders of magnitude
        st.tuples(*[st.integers(0, 1_000_000)] * resources),
    )
    groups = draw(st.lists(st.lists(options, min_size=1, max_size=4), min_size=1, max_size=6))
    limits = draw(st.tuples(*[st.integers(0, 1_000_000 * len(groups))] * resources))
    return groups, list(limits)


def best(groups, limits):
    within = [
        taken
        for taken in product(*(range(len(group)) for group in groups))
        if all(spent(groups, taken, one) <= limit for one, limit in enumerate(limits))
    ]
    losses = [sum(group[at].loss for group, at in zip(groups, t, strict=True)) for t in within]
    return min(losses, default=None)


@settings(max_examples=150, deadline=None)
@given(problems())
def test_it_is_the_best_of_all_choices(problem):
    groups, limits = problem
    found, wanted = allocate(groups, limits), best(groups, limits)
    if wanted is None:
        assert found is None
        return
    assert found.loss == pytest.approx(wanted, rel=1e-7, abs=1e-9)
    assert found.bound <= found.loss
    assert all(spent(groups, found.taken, one) <= limit for one, limit in enumerate(limits))


@settings(max_examples=50, deadline=None)
@given(problems(), st.randoms())
def test_the_order_of_groups_and_what_is_worse_in_all_change_nothing(problem, random):
    groups, limits = problem
    found = allocate(groups, limits)
    worse = Option(
        max(o.loss for o in groups[0]) + 1,
        tuple(m + 1 for m in map(max, zip(*(o.costs for o in groups[0]), strict=True))),
    )
    shuffled = [[*groups[0], worse], *groups[1:]]
    random.shuffle(shuffled)
    other = allocate(shuffled, limits)
    assert (found is None) == (other is None)
    if found is not None:
        assert other.loss == pytest.approx(found.loss, rel=1e-7, abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(problems(), st.integers(0, 500_000))
def test_more_room_never_costs_more(problem, more):
    groups, limits = problem
    found, wider = allocate(groups, limits), allocate(groups, [one + more for one in limits])
    if found is not None:
        assert wider.loss <= found.loss * (1 + 1e-7) + 1e-9


def test_differences_far_below_all_else_count_too():
    groups = [[Option(0.0, (1,)), Option(-1e-9, (2,))]] * 3
    assert sorted(allocate(groups, [5]).taken) == [0, 1, 1]
    assert allocate([*groups, [Option(2.0, (1,)), Option(0.1, (3,))]], [9]).taken == (1, 1, 1, 1)


def test_the_last_byte_counts():
    groups = [[Option(1.0, (10**9,)), Option(0.5, (10**9 + 1,))] for _ in range(3)]
    assert allocate(groups, [3 * 10**9 + 2]).loss == 2.0
    assert allocate(groups, [3 * 10**9 + 3]).loss == 1.5
