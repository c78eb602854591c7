"""Recipes that between them use the whole language are legal, and have two forms that agree."""

from pathlib import Path

import pytest

from qcompile.diagnostics.source import Source
from qcompile.driver.front import check
from qcompile.syntax.json_form import from_json, json_text
from qcompile.syntax.meaning import same_meaning
from qcompile.syntax.parse import parse
from qcompile.syntax.read import read
from qcompile.syntax.to_text import to_text

FOLDER = Path(__file__).parents[1] / "golden" / "recipes"
RECIPES = sorted(FOLDER.rglob("*.qrecipe"))
LATER = {"cnn": 1, "vit": 0, "decoder": 2, "budget": 2, "graph": 2, "schemes": 0, "llm": 0}
"""Least number of reasons why this version makes no plan of a recipe: none of them is an error."""

every = pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)


def tree(path):
    file, problems = parse(read(path))
    assert file is not None, problems
    return file


@every
def test_check_has_nothing_to_say(path):
    checked = check(path)
    assert checked.diagnostics == ()
    assert checked.recipe is not None
    assert {item.code.number for item in checked.recipe.unavailable} <= {"QR290"}


@every
def test_text_of_the_tree_has_the_same_tree(path):
    file = tree(path)
    again, problems = parse(Source("again", to_text(file)))
    assert again is not None, problems
    assert same_meaning(file, again)
    assert to_text(again) == to_text(file)


@every
def test_json_of_the_tree_has_the_same_tree(path):
    file = tree(path)
    again = from_json(json_text(file), "r.qrecipe.json")
    assert same_meaning(file, again)
    assert json_text(again) == json_text(file)
