import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompile.policy.glob import InvalidGlob, escape_glob, parse_glob


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("fc", ["fc"], ["fc1", "a.fc", "fc.a", "FC", ""]),
        ("layer*.conv", ["layer.conv", "layer12.conv"], ["layer1.0.conv", "layer1.conv1"]),
        ("encoder.**", ["encoder", "encoder.a", "encoder.a.b"], ["encoder1", "x.encoder.a"]),
        ("**.attn", ["attn", "a.attn", "a.b.attn"], ["attn.a", "xattn"]),
        ("a.**.b.**.c", ["a.b.c", "a.x.b.y.z.c", "a.b.b.c"], ["a.c", "a.b", "a.c.b"]),
        ("conv?", ["conv1"], ["conv", "conv12", "conv."]),
        ("l.[0-3].w", ["l.0.w", "l.3.w"], ["l.4.w", "l..w", "l.00.w"]),
        ("l.[!0].w", ["l.1.w"], ["l.0.w"]),
        ("l.[]-]", ["l.]", "l.-"], ["l.a"]),
        ("l.{0,11}.w", ["l.0.w", "l.11.w"], ["l.1.w", "l.{0,11}.w"]),
        ("{a.b,c}.w", ["a.b.w", "c.w"], ["b.w", "a.w"]),
        ("{,x}a", ["a", "xa"], ["{,x}a"]),
        (r"a\*", ["a*"], ["ab", "a"]),
        (r"a\{b", ["a{b"], ["ab"]),
        ("**", ["", "a", "a.b"], []),
        ("*a*b*", ["ab", "xaxbx", "aab"], ["ba", "a.b"]),
    ],
)
def test_glob_is_anchored_and_star_stays_in_its_segment(pattern, yes, no):
    glob = parse_glob(pattern)
    assert [path for path in yes if not glob.matches(path)] == []
    assert [path for path in no if glob.matches(path)] == []


@pytest.mark.parametrize(
    "text", ["", "a..b", ".a", "a**", "**a.b", "***", "[a", "a{b", "{a,{b,c}}", "a\\", "[z-a]"]
)
def test_text_that_is_no_glob_is_refused(text):
    with pytest.raises(InvalidGlob):
        parse_glob(text)


def test_braces_cannot_multiply_without_bound():
    with pytest.raises(InvalidGlob, match="256"):
        parse_glob("{a,b,c,d}" * 20)


def as_regex(pattern):
    """The same glob for ``re``, for patterns of ``a``, ``b``, ``*``, ``?`` and ``**``."""
    out = ""
    segments = pattern.split(".")
    for segment in segments:
        if segment == "**":
            out += r"(?:\.[^.]+)*"
            continue
        body = "".join({"*": "[^.]*", "?": "[^.]"}.get(char, char) for char in segment)
        out += rf"\.{body}"
    return out


SEGMENT = st.sampled_from(["a", "b", "ab", "*", "a*", "*b", "?", "?b", "*a*", "**"])
PATH = st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=5).map(".".join)


@settings(deadline=None)
@given(st.lists(SEGMENT, min_size=1, max_size=5).map(".".join), PATH)
def test_glob_agrees_with_re(pattern, path):
    expected = re.fullmatch(as_regex(pattern), f".{path}") is not None
    assert parse_glob(pattern).matches(path) is expected


@settings(deadline=None)
@given(st.lists(st.text("ab*?[]{},\\!-", min_size=1), min_size=1).map(".".join))
def test_escaped_path_matches_itself_alone(path):
    glob = parse_glob(escape_glob(path))
    assert glob.matches(path)
    assert not glob.matches(f"{path}x")


def test_stars_do_not_multiply_the_work():
    """A backtracking matcher needs some ``10 ** 18`` steps for this."""
    assert not parse_glob("*a" * 60 + "*c").matches("a" * 3000)
    assert not parse_glob("**.a." * 40 + "c").matches(".".join("a" * 2000))


PARTS = st.sampled_from(
    ["a", "b", "ab", "*", "a*", "*b", "a?b", "?", "[ab]", "**", "{a,b.a}", "\\*"]
)
PATHS = st.lists(st.text("ab*", max_size=3), max_size=5).map(".".join)


@given(st.lists(PARTS, min_size=1, max_size=4).map(".".join), PATHS)
def test_ends_that_are_looked_at_first_rule_nothing_out_that_fits(pattern, path):
    glob = parse_glob(pattern)
    blind = replace(glob, ends=tuple(("", "") for _ in glob.ends))
    assert glob.matches(path) == blind.matches(path)


@pytest.mark.parametrize(
    ("pattern", "ends"),
    [
        ("blocks.*.down", [("blocks.", "down")]),
        ("blocks.0.**", [("blocks.0", "")]),
        ("**.fc", [("", "fc")]),
        ("{a,b}x*y", [("ax", "y"), ("bx", "y")]),
    ],
)
def test_ends_are_the_literal_text_around_the_wildcards(pattern, ends):
    assert list(parse_glob(pattern).ends) == ends
