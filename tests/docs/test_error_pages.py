"""Every page of ``docs/errors`` has its parts, and its examples do what the page says."""

import re
from pathlib import Path

import pytest

from qcompile.diagnostics.codes import Code, Severity
from qcompile.diagnostics.diagnostic import Diagnostic
from tests.specs.front_end import diagnose
from tests.specs.literate import Block, blocks

PAGES = Path(__file__).parents[2] / "docs" / "errors"
LANGUAGES = {"qrecipe", "qrecipe-part", "console"}
LAYOUT = re.compile(
    r"# (?P<number>QR\d{3}) (?P<slug>[a-z-]+)\n\n"
    r"(?P<meaning>.+?)\n\n"
    r"## Why\n(?P<why>.+?)\n\n"
    r"## Wrong\n(?P<wrong>```.+?\n```)\n\n"
    r"## Right\n(?P<right>```.+?\n```)\n\n"
    r"## Silence\n(?P<silence>.+)\n\Z",
    re.DOTALL,
)
MAX_LINES = 36
FROM_THE_REST = {Code.UNKNOWN_NAME, Code.MISSING_STATEMENT, Code.UNUSED_NAME}
"""A part uses names and statements that the rest of its recipe has."""

by_code = pytest.mark.parametrize("code", list(Code), ids=str)


def text_of(code: Code) -> str:
    return (PAGES / f"{code.number}.md").read_text(encoding="utf-8")


def example(code: Code, part: str) -> Block:
    """The block of ``Wrong`` or of ``Right``."""
    (block,) = [block for block in blocks(text_of(code)) if block.heading == part]
    return block


def recipes(part: str) -> list[Code]:
    written = [code for code in Code if (PAGES / f"{code.number}.md").exists()]
    return [code for code in written if example(code, part).language == "qrecipe"]


def codes(diagnostics: list[Diagnostic]) -> list[Code]:
    return [item.code for item in diagnostics]


@by_code
def test_page_has_the_agreed_layout(code: Code):
    page = LAYOUT.match(text_of(code))
    assert page is not None
    assert (page["number"], page["slug"]) == (code.number, code.slug)
    assert len(text_of(code).splitlines()) <= MAX_LINES


@by_code
def test_why_has_two_to_five_sentences(code: Code):
    page = LAYOUT.match(text_of(code))
    assert page is not None
    sentences = re.findall(r"[.?](?=\s|$)", re.sub(r"`[^`]*`", "", page["why"]))
    assert 2 <= len(sentences) <= 5


@by_code
def test_examples_are_recipes_parts_of_recipes_or_sessions(code: Code):
    for part in ("Wrong", "Right"):
        assert example(code, part).language in LANGUAGES


@by_code
def test_session_shows_its_own_code(code: Code):
    wrong = example(code, "Wrong")
    if wrong.language == "console":
        assert wrong.text.startswith("$ ")
        assert f"{code.severity.value}[{code.number}]: " in wrong.text


@by_code
def test_part_of_a_recipe_can_be_read(code: Code):
    for part in ("Wrong", "Right"):
        block = example(code, part)
        if block.language == "qrecipe-part":
            found = diagnose(f"qrecipe 1\n{block.text}")
            assert set(codes(found)) <= FROM_THE_REST


@pytest.mark.parametrize("code", recipes("Wrong"), ids=str)
def test_wrong_recipe_yields_the_code(code: Code):
    assert code in codes(diagnose(example(code, "Wrong").text))


@pytest.mark.parametrize("code", recipes("Right"), ids=str)
def test_right_recipe_is_mended(code: Code):
    found = diagnose(example(code, "Right").text)
    assert code not in codes(found)
    if code.severity is Severity.ERROR:
        assert not [item.message for item in found if item.is_error]


def test_no_page_is_left_over():
    assert {path.stem for path in PAGES.glob("*.md")} == {code.number for code in Code}
