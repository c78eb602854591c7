"""Both highlighters against the grammar: every keyword, and nothing that is none."""

import json
import re
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from pygments.token import Comment, Error, Keyword, Name, Number, Operator, String, Text

from qcompile.syntax import pygments_lexer
from qcompile.syntax.pygments_lexer import RecipeLexer
from qcompile.syntax.words import keywords

ROOT = Path(__file__).parents[2]
RECIPES = sorted([*(ROOT / "recipes").glob("*.qrecipe"), *(ROOT / "tests/golden/ok").glob("*")])
TEXTMATE = json.loads((ROOT / "grammars" / "qrecipe.tmLanguage.json").read_text(encoding="utf-8"))
KEYWORDS = {word for group in keywords().values() for word in group}
GROUPS = ("STATEMENTS", "RULES", "OPERATORS", "SLOTS", "CONSTANTS", "RESERVED")


def tokens(text: str) -> list[tuple[object, str]]:
    return [(kind, value) for kind, value in RecipeLexer().get_tokens(text) if value.strip()]


def test_pygments_words_are_the_keywords_of_the_grammar() -> None:
    listed = [word for group in GROUPS for word in getattr(pygments_lexer, group)]
    assert sorted(listed) == sorted(KEYWORDS)


def test_textmate_words_are_the_keywords_of_the_grammar() -> None:
    lists = [
        re.fullmatch(r"\\b\(\?:([a-z_2|]+)\)\\b", p.get("match", "")) for p in TEXTMATE["patterns"]
    ]
    listed = [word for match in lists if match for word in match[1].split("|")]
    assert sorted(listed) == sorted(KEYWORDS)


def test_textmate_patterns_are_regular_expressions_with_unique_scopes() -> None:
    for pattern in TEXTMATE["patterns"]:
        re.compile(pattern.get("match") or pattern["begin"])
    scopes = [pattern["name"] for pattern in TEXTMATE["patterns"] if "name" in pattern]
    assert len(scopes) == len(set(scopes))


def test_both_know_the_same_formats() -> None:
    assert pygments_lexer.FORMAT in [p.get("match") for p in TEXTMATE["patterns"]]


def test_lexer_is_registered() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    reference = project["entry-points"]["pygments.lexers"]["qrecipe"]
    assert EntryPoint("qrecipe", reference, "pygments.lexers").load() is RecipeLexer


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_every_character_of_a_recipe_has_a_kind(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    found = list(RecipeLexer(stripnl=False, ensurenl=False).get_tokens(text))
    assert "".join(value for _, value in found) == text
    assert not [value for kind, value in found if kind in (Error, Text)]


def test_kinds_of_a_rule() -> None:
    text = 'final set act.bits = 8 for first("a\\"*") and re"b+" # why\n'
    assert tokens(text) == [
        (Keyword, "final"),
        (Keyword, "set"),
        (Name.Builtin, "act"),
        (pygments_lexer.Punctuation, "."),
        (Name.Attribute, "bits"),
        (Operator, "="),
        (Number, "8"),
        (Keyword, "for"),
        (Name.Function, "first"),
        (pygments_lexer.Punctuation, "("),
        (String.Double, '"'),
        (String.Double, "a"),
        (String.Escape, '\\"'),
        (String.Double, "*"),
        (String.Double, '"'),
        (pygments_lexer.Punctuation, ")"),
        (Operator.Word, "and"),
        (String.Regex, 're"b+"'),
        (Comment.Single, "# why"),
    ]


@pytest.mark.parametrize("word", ["model", "weight", "target", "output"])
def test_keyword_that_names_a_setting_is_an_attribute(word: str) -> None:
    assert tokens(f"{word} = 3")[0] == (Name.Attribute, word)
    assert tokens(f"{word} == 3")[0][0] is not Name.Attribute


@pytest.mark.parametrize("text", ["60MB", "99.9%", "1e-3", "20_000", "2.4"])
def test_number_and_its_unit_are_one_token(text: str) -> None:
    assert tokens(text) == [(Number, text)]


@pytest.mark.parametrize("text", ["int4", "uint8", "nf4", "mxfp4", "fp8_e4m3"])
def test_format_is_a_type(text: str) -> None:
    assert tokens(text) == [(Keyword.Type, text)]
    assert tokens(f"my_{text}")[0][0] is Name


def test_open_string_ends_with_its_line() -> None:
    assert (Keyword, "use") in tokens('skip "abc\nuse w for x\n')
