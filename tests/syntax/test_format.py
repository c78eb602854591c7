from pathlib import Path

import pytest

from qcompile.diagnostics.source import Source
from qcompile.syntax import format as formatter
from qcompile.syntax.format import format_text
from qcompile.syntax.layout import WIDTH
from qcompile.syntax.meaning import same_comments, same_meaning
from qcompile.syntax.nodes import RecipeFile
from qcompile.syntax.parse import parse
from qcompile.syntax.to_text import to_text

GOLDEN = Path(__file__).parents[1] / "golden"
PAIRS = sorted((GOLDEN / "format").glob("*.qrecipe"))
TEXTS = [*PAIRS, *sorted((GOLDEN / "ok").glob("*.qrecipe"))]


def formatted(text: str) -> str:
    result = format_text(Source("x.qrecipe", text))
    assert isinstance(result, str)
    return result


def body(text: str) -> str:
    """What becomes of ``text`` below the version line."""
    return formatted(f"qrecipe 1\n{text}").removeprefix("qrecipe 1\n")


def tree(text: str) -> RecipeFile:
    file, diagnostics = parse(Source("x.qrecipe", text))
    assert diagnostics == []
    assert file is not None
    return file


@pytest.mark.parametrize("path", PAIRS, ids=lambda path: path.stem)
def test_recipe_gets_the_expected_layout(path: Path) -> None:
    expected = path.with_suffix(".expected").read_text(encoding="utf-8")
    assert formatted(path.read_text(encoding="utf-8")) == expected


def test_golden_pairs_are_there() -> None:
    assert len(PAIRS) >= 4


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.stem)
def test_formatting_twice_changes_nothing_more(path: Path) -> None:
    once = formatted(path.read_text(encoding="utf-8"))
    assert formatted(once) == once


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.stem)
def test_meaning_and_comments_are_kept(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    before, after = tree(text), tree(formatted(text))
    assert same_meaning(before, after)
    assert same_comments(before, after)


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.stem)
def test_windows_line_ends_become_unix_ones(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert formatted(text.replace("\n", "\r\n")) == formatted(text)


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.stem)
def test_tree_is_printed_with_its_comments(path: Path) -> None:
    file = tree(path.read_text(encoding="utf-8"))
    text = to_text(file)
    assert same_meaning(file, tree(text))
    assert same_comments(file, tree(text))
    assert to_text(tree(text)) == text
    assert formatted(text) == text


def test_no_line_ends_in_a_blank_and_the_last_one_ends() -> None:
    text = formatted("qrecipe 1 \nlet a = 1  # b  \n\n\n")
    assert text == "qrecipe 1\nlet a = 1  # b\n"


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("1e-3", "1e-3"),
        ("20_000", "20_000"),
        ("007", "007"),
        ("60MB", "60MB"),
        (r'"a\tb\\"', r'"a\tb\\"'),
        (r're"^a\.(b|c)$"', r're"^a\.(b|c)$"'),
        ("(a)", "(a)"),
        ("((a or b))", "((a or b))"),
        ("a-1", "a - 1"),
        ("a- -1", "a - -1"),
        ("[ -1,-a ]", "[-1, -a]"),
        ("1 .. 2", "1..2"),
        ("1.5..20%", "1.5..20%"),
        ("1..n-1", "1 .. n - 1"),
        ("-1..-2", "-1 .. -2"),
        ("not(a)", "not (a)"),
        ("f (a)", "f(a)"),
        ("f (a = b)", "f(a=b)"),
        ("x [1][0]", None),
        ("int8 [1]", "int8[1]"),
        ("a is [1]", "a is [1]"),
        ("a==b", "a == b"),
        ("a%2", "a % 2"),
        ("lib . f ( )", "lib.f()"),
        ("[1,]", "[1]"),
    ],
)
def test_words_stay_and_blanks_are_set(written: str, canonical: str | None) -> None:
    if canonical is None:
        assert isinstance(format_text(Source("x", f"qrecipe 1\nlet a = {written}\n")), list)
    else:
        assert body(f"let a = {written}") == f"let a = {canonical}\n"


def test_equals_sign_is_wide_in_a_setting_and_tight_in_a_modifier() -> None:
    text = body("scheme s { weight int4 bits = 8 }\noutput { weight=f(a = 1) }")
    assert "weight int4 bits=8\n" in text
    assert "weight = f(a=1)\n" in text


def test_line_of_the_full_width_is_kept_and_a_longer_one_broken() -> None:
    fitting = f"select a = {'b' * (WIDTH - 16)} or c\n"
    assert len(fitting) == WIDTH + 1
    assert body(fitting) == fitting
    assert body(fitting.replace(" or", "b or")).splitlines()[1] == "  or c"


def test_room_for_the_brace_is_counted() -> None:
    head = f"within {'b' * (WIDTH - 15)} or c"
    text = body(f"policy p {{ {head} {{ skip d }} }}")
    assert "\n    or c {\n" in text
    assert all(len(line) <= WIDTH for line in text.splitlines())


def test_text_with_errors_is_reported_and_not_touched() -> None:
    result = format_text(Source("x", "qrecipe 1\nlet a = = 1\n"))
    assert isinstance(result, list)
    assert [item.code.number for item in result] == ["QR101"]


@pytest.mark.parametrize(
    "damaged", ["qrecipe 1\nlet a = 2  # one\n", "qrecipe 1\nlet a = 1\n", "{"]
)
def test_layout_that_would_change_the_recipe_is_never_returned(
    monkeypatch: pytest.MonkeyPatch, damaged: str
) -> None:
    monkeypatch.setattr(formatter, "lay_out", lambda rows, end: damaged)
    with pytest.raises(AssertionError, match="would change what it says"):
        format_text(Source("x", "qrecipe 1\nlet a = 1 # one\n"))


def test_meaning_tells_numbers_from_each_other_by_their_type() -> None:
    assert not same_meaning(tree("qrecipe 1\nlet a = 1"), tree("qrecipe 1\nlet a = 1.0"))
    assert not same_meaning(tree("qrecipe 1\nlet a = [1]"), tree("qrecipe 1\nlet a = [1, 1]"))
    assert same_meaning(tree("qrecipe 1\nlet a = (1) # c"), tree("\nqrecipe 1\nlet a=1"))


def test_as_deep_as_the_language_allows() -> None:
    chain = f"qrecipe 1\nlet a = {'f(not ' * 63}x{')' * 63}\n"
    assert same_meaning(tree(chain), tree(formatted(chain)))
    assert same_meaning(tree(chain), tree(to_text(tree(chain))))
