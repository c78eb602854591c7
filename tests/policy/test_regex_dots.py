"""Dots that are meant as dots are told from those that stand for any character."""

import pytest

from qcompile.policy.resolve import resolve
from tests.policy.compiled import recipe_of
from tests.policy.test_selection import SITES

HEAD = "scheme w8 { weight int8 }\n"


def better(selector):
    recipe = recipe_of(f"{HEAD}policy main {{ use w8 for {selector} }}")
    found = [d for d in resolve(recipe, SITES)[1] if d.code.number == "QR314"]
    return [fix.replacement for item in found for fix in item.fixes] or [d.help for d in found]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (r"layer.1.conv2", r"layer\.1\.conv2"),
        (r"layer\.1.conv2", r"layer\.1\.conv2"),
        (r"layer.[0-9].conv[12]", r"layer\.[0-9]\.conv[12]"),
        (r"layer.(0|1)\.conv2", r"layer\.(0|1)\.conv2"),
        (r"laye..1\.conv2", r"laye.\.1\.conv2"),
    ],
)
def test_dots_that_are_dots_in_names_are_to_be_escaped(pattern, expected):
    assert better(f're"{pattern}"') == [f're"{expected}"']


@pytest.mark.parametrize(
    "pattern",
    [r"layer\.1\.conv.", r"layer[.]1[.]conv2", ".*conv2", "layer.+", r"l.yer\.1\.conv2", r"[^.]+"],
)
def test_other_dots_are_left_alone(pattern):
    assert better(f're"{pattern}"') == []


def test_names_of_modules_and_parameters_are_looked_at_too():
    (help_inside,) = better('inside(re"layer.1")')
    assert r're"layer\.1"' in help_inside
    (help_parameter,) = better('param(re"fc.weight")')
    assert r're"fc\.weight"' in help_parameter


def test_expression_too_long_to_be_escaped_is_left_alone():
    filler = "|" + "x" * (512 - len("layer.1.conv2|"))
    assert better(f're"layer.1.conv2{filler}"') == []
