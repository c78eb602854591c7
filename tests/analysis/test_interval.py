from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompile.analysis.interval import ANYTHING, Interval, hull

ends = st.floats(-1e6, 1e6) | st.just(-inf) | st.just(inf)
numbers = st.floats(-1e6, 1e6)


@st.composite
def members(draw):
    """An interval and a finite number inside it."""
    value = draw(numbers)
    low, high = min(draw(ends), value), max(draw(ends), value)
    return Interval(low, high), value


def holds(interval: Interval, value: float) -> bool:
    return interval.low <= value <= interval.high


@given(members(), members())
def test_arithmetic_on_members_stays_inside(first, second):
    (a, x), (b, y) = first, second
    assert holds(a + b, x + y)
    assert holds(a - b, x - y)
    assert holds(a * b, x * y)
    assert holds(-a, -x)
    assert holds(a.square, x * x)
    assert holds(a.magnitude, abs(x))
    assert holds(a | b, x)
    assert holds(hull([a, b]), y)
    if y:
        assert holds(a / b, x / y)


@given(members(), numbers)
def test_clamping_is_tight_at_its_bounds(member, bound):
    interval, value = member
    assert holds(interval.clamped(low=bound), max(value, bound))
    assert interval.clamped(low=bound).low >= bound
    assert interval.clamped(high=bound).high <= bound


def test_a_sign_survives_arithmetic():
    positive = Interval(0.0, inf)
    for result in (positive + positive, positive * positive, positive.square):
        assert result.low == 0
    assert (-positive).high == 0


def test_division_by_what_may_be_zero_says_nothing():
    assert Interval(1.0, 2.0) / Interval(-1.0, 1.0) == ANYTHING


def test_an_interval_is_never_empty():
    with pytest.raises(ValueError, match="no numbers"):
        Interval(1.0, 0.0)
