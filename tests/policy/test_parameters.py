import pytest

from qcompile.diagnostics.source import Source
from qcompile.policy.imports import StoredTexts
from qcompile.policy.lower import lower
from qcompile.policy.parameters import argument
from qcompile.syntax.parse import parse

RECIPE = """qrecipe 1
param bits: int = 4 in 2..8
param ratio: float = 0.5 in 0.25..0.75
param even: bool = true
param head: string = "fc" in ["fc", "head"]
scheme w { weight int4 symmetric per_channel bits=bits }
select h = head
policy main { use w for h; set weight.symmetric = even for h }
"""


def lowered(text=RECIPE, **arguments):
    source = Source("a.qrecipe", text)
    return lower(parse(source)[0], source, arguments=arguments)


def test_given_values_replace_defaults_with_their_types():
    recipe, problems = lowered(bits="3", ratio="0.75", even="false", head="head")
    assert not problems
    assert recipe.params == {"bits": 3, "ratio": 0.75, "even": False, "head": "head"}
    assert type(recipe.params["even"]) is bool
    assert recipe.schemes["w"].weight.bits == 3
    assert recipe.rules[1].action.change.symmetric is False


def test_defaults_are_recorded_too():
    recipe, _ = lowered()
    assert recipe.params == {"bits": 4, "ratio": 0.5, "even": True, "head": "fc"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bits", "9"),
        ("bits", "1"),
        ("bits", "4.5"),
        ("bits", "true"),
        ("bits", ""),
        ("ratio", "0.8"),
        ("ratio", "nan"),
        ("ratio", "inf"),
        ("even", "1"),
        ("even", "True"),
        ("head", "tail"),
    ],
)
def test_wrong_value_is_reported_with_its_origin(name, value):
    recipe, (problem,) = lowered(**{name: value})
    assert recipe is None
    assert problem.code.number == "QR407"
    assert problem.notes == (f"given by `--param {name}={value}`",)
    assert problem.primary.span.source.name == "a.qrecipe"


def test_unknown_parameter_is_reported_with_the_nearest_name():
    recipe, (problem,) = lowered(bit="3")
    assert recipe is None
    assert (problem.code.number, problem.subject) == ("QR201", "--param bit")
    assert problem.help == "did you mean `bits`?"


def test_parameter_of_an_import_is_set_by_its_qualified_name():
    text = 'qrecipe 1\nimport "lib.qrecipe" as lib\npolicy main extends lib.main {}\n'
    source = Source("a.qrecipe", text)
    files = StoredTexts({"lib.qrecipe": RECIPE})
    recipe, _ = lower(parse(source)[0], source, files, {"lib.bits": "2"})
    assert recipe.schemes["lib.w"].weight.bits == 2
    assert recipe.params["lib.bits"] == 2


def test_given_value_needs_no_default():
    text = "qrecipe 1\nparam bits: int in 2..8\nscheme w { weight int4 bits=bits }\n"
    assert lowered(text)[0] is None
    assert lowered(text, bits="5")[0].schemes["w"].weight.bits == 5


@pytest.mark.parametrize("value", [3, -2, 0.1, 1e-30, True, False, "", "a=b", "true"])
def test_value_survives_the_way_through_text(value):
    sort = type(value).__name__.replace("str", "string")
    text = f"qrecipe 1\nparam x: {sort}\n"
    recipe, _ = lowered(text, x=argument(value))
    assert recipe.params["x"] == value
    assert type(recipe.params["x"]) is type(value)


def test_parameter_stands_in_the_arguments_of_the_model():
    text = (
        "qrecipe 1\nparam width: int = 8\nparam deep: bool = false\n"
        'model "m:f" { args = [width, deep] }\npolicy main {}\n'
    )
    assert lowered(text)[0].model.args == (8, False)
