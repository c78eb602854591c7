from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompile.policy.glob import InvalidGlob, parse_glob
from qcompile.policy.inclusion import glob_includes

SEGMENTS = ("a", "b", "ab", "ba", "0", "1", "a0")
PATHS = [".".join(parts) for n in range(1, 4) for parts in product(SEGMENTS, repeat=n)]
pieces = st.sampled_from(
    ["a", "b", "0", "?", "*", "[0-1]", "[!a]", "a*", "*b", "**", "{a,b}", "{a,b0}"]
)
globs = st.lists(pieces, min_size=1, max_size=3).map(".".join)


@settings(max_examples=150, deadline=None)
@given(globs, globs)
def test_inclusion_is_never_claimed_where_a_path_tells_otherwise(wide, narrow):
    left, right = parse_glob(wide), parse_glob(narrow)
    if glob_includes(left, right):
        assert all(left.matches(path) for path in PATHS if right.matches(path))


@pytest.mark.parametrize(
    ("wide", "narrow", "expected"),
    [
        ("**", "a.*.b", True),
        ("a.**", "a.b.*.c", True),
        ("a.**", "a", True),
        ("a.*", "a.b", True),
        ("a.*", "a.b.c", False),
        ("a*", "ab*c", True),
        ("*a*", "*ba*", True),
        ("*ab*", "*a*b*", False),
        ("layer[0-9].conv", "layer[2-3].conv", True),
        ("layer[2-3].conv", "layer[0-9].conv", False),
        ("{a,b}.c", "a.c", True),
        ("a.c", "{a,b}.c", False),
        ("**.b", "**.a.b", True),
        ("**.a.b", "**.b", False),
    ],
)
def test_known_pairs(wide, narrow, expected):
    assert glob_includes(parse_glob(wide), parse_glob(narrow)) is expected


def test_braces_that_multiply_are_refused_before_they_are_compared():
    with pytest.raises(InvalidGlob):
        parse_glob("{a,b,c,d}" * 5)
