"""Whatever the text, parsing ends with a file or with diagnostics that lie inside it."""

from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompile.diagnostics.render import render_json, render_text
from qcompile.diagnostics.source import Source
from qcompile.syntax import newlines
from qcompile.syntax.limits import MAX_NESTING, MAX_OPERATORS, MAX_RULES
from qcompile.syntax.parse import parse
from qcompile.syntax.read import decode

GOLDEN = Path(__file__).parents[1] / "golden"
TEXTS = [path.read_text(encoding="utf-8") for path in sorted(GOLDEN.glob("[bo][rk]*/*.qrecipe"))]
SCRAPS = ["{", "}", "(", ")", "[", "]", '"', "'", "#", "//", "\n", ";", "=", "*", "\\", "\x00", "é"]
SCRAPS += [
    "\r",
    "\x1b[31m",
    "\u2028",
    " or ",
    " not ",
    " policy ",
    "policy m {\n",
    "\nuse ",
    "60 MB",
]


def check(text: str) -> None:
    source = Source("x.qrecipe", text)
    file, diagnostics = parse(source)
    assert (file is None) == bool(diagnostics)
    for item in diagnostics:
        labels = [item.primary, *item.secondary] if item.primary else []
        spans = [label.span for label in labels] + [fix.span for fix in item.fixes]
        assert all(0 <= s.start <= s.end <= len(text) + 1 for s in spans)
    assert "\x1b" not in render_text(diagnostics)
    render_json(diagnostics)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    text = draw(st.sampled_from(TEXTS))
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, len(text)))
        match draw(st.integers(0, 3)):
            case 0:
                text = text[:at] + draw(st.sampled_from(SCRAPS)) + text[at:]
            case 1:
                text = text[:at] + text[at + draw(st.integers(1, 20)) :]
            case 2:
                start = draw(st.integers(0, len(text)))
                text = text[:at] + text[start : start + 40] + text[at:]
            case _:
                text = text[:at]
    return text


@settings(max_examples=300, deadline=None)
@given(mutated())
def test_mutated_recipe_gives_a_file_or_diagnostics(text: str) -> None:
    check(text)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=80))
def test_any_text_after_the_version_gives_a_file_or_diagnostics(text: str) -> None:
    check(f"qrecipe 1\n{text}")


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes_give_a_source_or_diagnostics(data: bytes) -> None:
    source = decode(data, "x")
    if isinstance(source, Source):
        check(source.text)
    else:
        assert source


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(SCRAPS), max_size=30), st.randoms(use_true_random=False))
def test_soup_of_marks_gives_a_file_or_diagnostics(scraps: list[str], random: Random) -> None:
    random.shuffle(scraps)
    check("qrecipe 1\n" + "".join(scraps))


@pytest.mark.parametrize(
    "body",
    [
        f"let a = {'(' * 100_000}b{')' * 100_000}",
        f"let a = {'[' * 100_000}",
        f"let a = {'not ' * 50_000}b",
        f"let a = {'-' * 50_000}b",
        f"let a = {'f(' * 50_000}",
        f"let a = b{' or b' * 50_000}",
        f"policy m {{ {'within a {' * 50_000}",
        f"output {{ a = {'{ a = ' * 50_000}",
    ],
    ids=["parens", "lists", "not", "minus", "calls", "chain", "within", "records"],
)
def test_deep_text_is_refused_before_it_is_read_to_the_end(body: str) -> None:
    _, diagnostics = parse(Source("x", f"qrecipe 1\n{body}\n"))
    assert [item.code.number for item in diagnostics] == ["QR120"]
    assert diagnostics[0].primary is not None
    assert diagnostics[0].primary.span.start < 5_000


def test_limits_themselves_are_allowed() -> None:
    nested = "(" * MAX_NESTING + "b" + ")" * MAX_NESTING
    chain = "b" + " or b" * MAX_OPERATORS
    assert parse(Source("x", f"qrecipe 1\nlet a = {nested}\nlet c = {chain}\n"))[1] == []


@pytest.mark.parametrize(
    "value",
    [
        "f(" * MAX_NESTING + "not " * MAX_OPERATORS + "b" + ")" * MAX_NESTING,
        "[" * MAX_NESTING + "-" * MAX_OPERATORS + "1" + "]" * MAX_NESTING,
        "(b or " * MAX_NESTING + "b" + " or b" * (MAX_OPERATORS - MAX_NESTING) + ")" * MAX_NESTING,
    ],
    ids=["calls", "lists", "chains"],
)
def test_deepest_legal_tree_leaves_room_on_the_stack(value: str) -> None:
    file, found = parse(Source("x", f"qrecipe 1\nlet a = {value}\n"))
    assert found == []
    again, _ = parse(Source("x", f"qrecipe 1\nlet a = {value}\n"))
    assert file == again
    assert hash(file) == hash(again)
    assert repr(file) == repr(again)


def test_long_lists_of_negative_numbers_are_no_deep_expression() -> None:
    levels = ", ".join(f"-{n} + 1" for n in range(1000))
    assert parse(Source("x", f"qrecipe 1\nlet a = [{levels}]\n"))[1] == []


def test_operators_inside_and_outside_of_brackets_add_up() -> None:
    half = " or b" * (MAX_OPERATORS // 2 + 1)
    deep = f"f(b{half}, 1){half}"
    assert parse(Source("x", f"qrecipe 1\nlet a = {deep}\n"))[1][0].code.number == "QR120"
    siblings = f"f(b{half}, b{half})"
    assert parse(Source("x", f"qrecipe 1\nlet a = {siblings}\n"))[1] == []


def test_rules_are_counted_over_all_policies() -> None:
    policy = "policy m%d { " + "skip a; " * (MAX_RULES // 2 + 1) + "}\n"
    _, found = parse(Source("x", "qrecipe 1\n" + policy % 1 + policy % 2))
    assert [item.code.number for item in found] == ["QR120"]


def test_size_is_bounded_by_tokens_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newlines, "MAX_TOKENS", 10)
    assert parse(Source("x", "qrecipe 1\nlet a = [1]\n"))[1] == []
    found = parse(Source("x", "qrecipe 1\nlet a = [1, 2, 3]\n"))[1]
    assert [item.code.number for item in found] == ["QR120"]


def test_blank_and_comment_lines_cost_linear_time() -> None:
    # quadratic matching of 100,000 lines would take minutes
    text = "qrecipe 1\n" + "\n" * 100_000 + "# x\n" * 100_000 + "  \n" * 100_000 + "let a = 1"
    file, _ = parse(Source("x", text))
    assert file is not None
    assert len(file.comments) == 100_000
