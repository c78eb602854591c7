"""``select`` answers in the names of a recipe, whatever state its rules are in."""

import json

import pytest
from click.testing import CliRunner

from qcompile.cli.main import main
from tests.driver.project import RECIPE, make_project

NAMED = RECIPE.replace("policy main", 'select inner = inside("blocks.*")\npolicy main')


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_project(tmp_path, NAMED)


def select(expression, recipe, *options):
    result = CliRunner().invoke(main, ["select", expression, str(recipe), *options])
    assert "internal error" not in result.output
    return result


def keys(expression, recipe, *options):
    result = select(expression, recipe, "--json", *options)
    return [site["key"] for site in json.loads(result.stdout)["sites"]]


CONVS = ["blocks.0.conv1", "blocks.0.conv2", "blocks.1.conv1", "blocks.1.conv2"]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("conv", ["conv", *CONVS]),
        ("conv and inner", CONVS),
        ('"head" or first(conv)', ["conv", "head"]),
        ("conv and scheme(w4a8)", ["conv", *CONVS]),
        ("linear and not quantized", ["head"]),
        ("block(1..1) and conv", CONVS[2:]),
        ("linear and conv", []),
    ],
)
def test_expression_selects_as_a_rule_or_a_test_would(recipe, expression, expected):
    assert keys(expression, recipe) == expected


def test_text_names_each_site_and_counts_them(recipe):
    result = select("linear", recipe)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == ["head  linear  4x8  32 MACs  float", "1 of 12 sites"]


def test_pattern_without_a_match_is_an_error_with_suggestions_beside_the_rest(recipe):
    result = select('linear or "blocks.0.conv3"', recipe)
    assert result.exit_code == 1
    assert "head" in result.stdout
    assert "selector:1:11" in result.stderr
    assert "`blocks.0.conv1`" in result.stderr


@pytest.mark.parametrize(
    ("expression", "code", "place"),
    [
        ("conv and", "QR106", "selector:1:9"),
        ("iner and conv", "QR201", "selector:1:1"),
        ("12", "QR401", "selector:1:1"),
        ("conv\nselect b = linear", "QR101", "selector:1:1"),
    ],
)
def test_place_of_a_mistake_is_in_the_expression(recipe, expression, code, place):
    result = select(expression, recipe)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert f"error[{code}]" in result.stderr
    assert place in result.stderr


def test_recipe_whose_rules_match_nothing_can_still_be_asked(recipe):
    recipe.write_text(NAMED.replace('skip "head"', 'skip "haed"'))
    assert keys("linear", recipe) == ["head"]


def test_weights_and_data_are_not_needed(recipe):
    recipe.write_text(
        NAMED.replace(
            '"factories:net"',
            '"factories:net" { weights = "gone.safetensors"; input = float32[n, 1, 6, 6] }',
        ).replace("factories:data", "nowhere:data")
    )
    assert keys("linear", recipe) == ["head"]


def test_another_model_can_be_asked(recipe):
    result = select("linear", recipe, "--model", "factories:wide")
    assert result.stdout.splitlines()[0].split()[2] == "4x16"


def test_library_without_a_model_says_what_is_missing(recipe):
    recipe.write_text("qrecipe 1\nselect inner = conv\n")
    result = select("inner", recipe)
    assert result.exit_code == 1
    assert "QR211" in result.stderr
    assert keys("inner", recipe, "--model", "zoo:resnet20")[0] == "stem.0"
