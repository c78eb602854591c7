import re
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompile.policy.regex import UnsafeRegex, parse_regex
from qcompile.syntax.limits import MAX_REGEX

ATOM = st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\.", r"\d", "[a-b1]"])
PIECE = st.tuples(ATOM, st.sampled_from(["", "*", "+", "?"])).map("".join)
FLAT = st.lists(PIECE, min_size=1, max_size=3).map("".join)
PLAIN = st.lists(ATOM, min_size=1, max_size=2).map("".join)
CHOICE = st.lists(PLAIN, min_size=1, max_size=3).map(lambda parts: f"({'|'.join(parts)})")
GROUP = st.tuples(CHOICE, st.sampled_from(["", "*", "+", "?"])).map("".join)
PATTERN = st.lists(st.one_of(FLAT, GROUP), min_size=1, max_size=4).map("".join)

WORDS = ["".join(chars) for size in range(4) for chars in product("ab.1", repeat=size)]


@settings(deadline=None)
@given(PATTERN)
def test_automaton_agrees_with_re_on_all_short_words(pattern):
    ours = parse_regex(pattern)
    theirs = re.compile(pattern, re.ASCII)
    assert [word for word in WORDS if ours.matches(word) != bool(theirs.fullmatch(word))] == []


@pytest.mark.parametrize(
    ("pattern", "marked"),
    [
        ("(a+)+$", "(a+)+"),
        ("(a*b)*", "(a*b)*"),
        ("((a?))*", "((a?))*"),
        ("a**", "*"),
        ("a+?", "?"),
        ("(?=a)b", "(?="),
        (r"(a)\1", r"\1"),
        ("a{2,3}", "{"),
        ("a^b", "^"),
        ("(a", "("),
        ("a)", ")"),
        ("[a", "["),
        ("[]", "[]"),
        ("*a", "*"),
        (r"\bfc", r"\b"),
    ],
)
def test_outside_the_subset_is_refused_at_its_place(pattern, marked):
    with pytest.raises(UnsafeRegex) as error:
        parse_regex(pattern)
    assert pattern[error.value.start : error.value.end] == marked


def test_whole_text_is_matched_with_or_without_anchors():
    for pattern in (r"layers\.(0|31)\.fc", r"^layers\.(0|31)\.fc$"):
        regex = parse_regex(pattern)
        assert regex.matches("layers.31.fc")
        assert not regex.matches("layers.31.fc2")
        assert not regex.matches("model.layers.0.fc")
    assert parse_regex(r"a\$").matches("a$")


def test_many_choices_take_time_in_proportion_to_the_text():
    """``re`` needs ``2 ** 30`` steps for ``a?`` times 30, followed by ``a`` times 30."""
    assert parse_regex("a?" * 30 + "a" * 30).matches("a" * 30)
    assert not parse_regex("(a|b|ab)*c").matches("ab" * 5000)


def test_deep_and_long_patterns_are_refused():
    with pytest.raises(UnsafeRegex, match="nested"):
        parse_regex("(" * 40 + ")" * 40)
    with pytest.raises(UnsafeRegex, match="longer"):
        parse_regex("a" * (MAX_REGEX + 1))
