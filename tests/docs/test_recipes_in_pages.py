"""Every recipe and test file that a page shows is right, or wrong as the page says."""

import pytest

from qcompile.diagnostics.source import Source
from qcompile.driver.front import check
from qcompile.driver.recipe_test import run_test
from qcompile.syntax.format import format_text
from tests.docs.pages import fenced, name_of, project_before


def shown(language):
    return [
        pytest.param(page, block, id=f"{name_of(page)}:{block.line}")
        for page, block in fenced(language)
    ]


def codes_of(block):
    listed = block.options.get("codes", "")
    return set(listed.split(",")) - {""}


@pytest.mark.parametrize(("page", "block"), shown("qrecipe"))
def test_recipe_gets_the_diagnostics_that_its_fence_names(page, block, tmp_path):
    project_before(page, block, tmp_path)
    recipe = tmp_path / block.options.get("file", "shown.qrecipe")
    recipe.parent.mkdir(parents=True, exist_ok=True)
    recipe.write_text(block.text)
    found = check(recipe).diagnostics
    assert {item.code.number for item in found} == codes_of(block), [d.message for d in found]


@pytest.mark.parametrize(("page", "block"), shown("qrecipe"))
def test_recipe_has_the_canonical_layout(page, block):
    text = format_text(Source("shown.qrecipe", block.text))
    if isinstance(text, list):
        assert codes_of(block) & {item.code.number for item in text}
    else:
        assert text == block.text


@pytest.mark.parametrize(("page", "block"), shown("qtest"))
def test_test_file_passes(page, block, tmp_path):
    project_before(page, block, tmp_path)
    test = tmp_path / block.options["file"]
    test.write_text(block.text)
    outcome = run_test(test)
    assert [item.message for item in outcome.failures] == []
    assert outcome.passed


def test_pages_show_no_recipe_without_a_fence_that_says_so():
    for page, block in fenced("text"):
        assert not block.text.startswith(("qrecipe 1", "qtest 1")), f"{page}:{block.line}"
