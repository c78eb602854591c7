"""The formatter and both spellings of a recipe, on whatever hypothesis thinks of."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from qcompile.diagnostics.source import Source
from qcompile.syntax.format import format_text
from qcompile.syntax.json_form import from_json, json_text, to_json
from qcompile.syntax.meaning import same_meaning
from qcompile.syntax.parse import parse
from qcompile.syntax.to_text import to_text
from tests.property.strategies import recipes, scrambled

thorough = settings(deadline=None, max_examples=60)
randoms = st.randoms(use_true_random=False)


def parsed(text):
    file, diagnostics = parse(Source("x", text))
    assert diagnostics == []
    assert file is not None
    return file


def formatted(text):
    result = format_text(Source("x", text))
    assert isinstance(result, str)
    return result


@thorough
@given(recipes)
def test_text_of_a_tree_has_that_tree(file):
    assert same_meaning(parsed(to_text(file)), file)


@thorough
@given(recipes, randoms)
def test_layout_depends_on_words_and_comments_only(file, random):
    text = to_text(file)
    other, comments = scrambled(text, random)
    once = formatted(other)
    assert same_meaning(parsed(once), file)
    assert [comment.text for comment in parsed(once).comments] == comments
    assert formatted(once) == once


@thorough
@given(recipes)
def test_text_of_a_tree_is_laid_out(file):
    text = to_text(file)
    assert formatted(text) == text
    assert to_text(parsed(text)) == text


@thorough
@given(recipes, randoms)
def test_json_gives_the_tree_and_the_comments_back(file, random):
    text, comments = scrambled(to_text(file), random)
    before = parsed(text)
    after = from_json(json_text(before), "x.qrecipe.json")
    assert not isinstance(after, list)
    assert same_meaning(after, before)
    assert [comment.text for comment in after.comments] == comments
    assert to_json(after) == to_json(before) == json.loads(json_text(before))
