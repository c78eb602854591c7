"""What ``--format json`` prints against its published schema."""

import json

import jsonschema
import pytest

from qcompile.diagnostics.codes import Code, Severity
from qcompile.diagnostics.diagnostic import Applicability, Diagnostic, Fix, Label
from qcompile.diagnostics.explain import JSON_SCHEMA, json_schema
from qcompile.diagnostics.render import JSON_FORMAT_VERSION, to_json
from qcompile.diagnostics.source import Source

SOURCE = Source("a", "use w4")
VALIDATOR = jsonschema.Draft202012Validator(json.loads(json_schema()))
FULL = Diagnostic(
    Code.UNKNOWN_NAME,
    "m",
    Label(SOURCE.span(4, 6), "this"),
    (Label(SOURCE.span(0, 3)),),
    subject="s",
    notes=("n",),
    help="h",
    fixes=(Fix(SOURCE.span(4, 6), "w8", Applicability.UNSAFE),),
    severity_override=Severity.INFO,
)


def test_schema_is_a_schema_of_the_version_that_is_written() -> None:
    VALIDATOR.check_schema(VALIDATOR.schema)
    assert f"diagnostics-{JSON_FORMAT_VERSION}.json" == JSON_SCHEMA


@pytest.mark.parametrize("items", [[], [FULL], [Diagnostic(Code.WEIGHT_FILE, "m")]])
def test_diagnostics_meet_the_schema(items: list[Diagnostic]) -> None:
    VALIDATOR.validate(to_json(items))


@pytest.mark.parametrize("code", list(Code), ids=str)
def test_every_code_meets_the_schema(code: Code) -> None:
    VALIDATOR.validate(to_json([Diagnostic(code, "m")]))


def test_every_written_field_is_in_the_schema() -> None:
    (item,) = to_json([FULL])["diagnostics"]
    definitions = VALIDATOR.schema["$defs"]
    assert set(item) == set(definitions["diagnostic"]["properties"])
    assert set(item["primary"]) == set(definitions["label"]["properties"])
    assert set(item["fixes"][0]) == set(definitions["fix"]["properties"])


@pytest.mark.parametrize("field", ["code", "severity", "primary", "fixes"])
def test_missing_field_is_noticed(field: str) -> None:
    document = to_json([FULL])
    del document["diagnostics"][0][field]
    assert not VALIDATOR.is_valid(document)


def test_next_major_version_is_not_this_schema() -> None:
    assert not VALIDATOR.is_valid(to_json([]) | {"format_version": "2.0"})
