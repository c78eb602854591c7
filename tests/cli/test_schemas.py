"""What commands print meets the schemas in docs, which are those of the values that are written."""

import json
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

from qcompile.cli.main import main
from qcompile.driver.schemas import DOCUMENTS, schema_text
from tests.driver.project import RECIPE, make_project

FOLDER = Path(__file__).parents[2] / "docs" / "schemas"


def validator(name):
    return jsonschema.Draft202012Validator(json.loads((FOLDER / name).read_text()))


@pytest.mark.parametrize(("name", "description", "document"), DOCUMENTS, ids=lambda x: str(x)[:14])
def test_published_schema_is_current(name, description, document):
    text = (FOLDER / name).read_text()
    assert text == schema_text(description, document), "run `make schemas`"
    jsonschema.Draft202012Validator.check_schema(json.loads(text))


@pytest.fixture
def printed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_project(tmp_path)
    Path("other.qrecipe").write_text(RECIPE.replace("int4", "int2").lstrip())

    def run(*arguments):
        result = CliRunner().invoke(main, [*arguments, "--json"])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return run


@pytest.mark.parametrize("preview", [(), ("--preview",)])
def test_plan_meets_its_schema(printed, preview):
    validator("plan-1.0.json").validate(printed("plan", "net.qrecipe", *preview)["plan"])


def test_trace_diff_and_selection_meet_theirs(printed):
    trace = printed("plan", "net.qrecipe", "--trace", "conv")["trace"]
    validator("trace-1.0.json").validate(trace)
    validator("diff-1.0.json").validate(printed("diff", "net.qrecipe", "other.qrecipe")["diff"])
    selected = printed("select", "conv", "net.qrecipe")
    validator("select-1.0.json").validate(selected)
    del selected["sites"]
    assert not validator("select-1.0.json").is_valid(selected)


def test_reader_may_meet_fields_of_a_later_minor_version(printed):
    document = printed("plan", "net.qrecipe")["plan"]
    document["core"]["later"] = 1
    validator("plan-1.0.json").validate(document)
    del document["core"]["sites"]
    assert not validator("plan-1.0.json").is_valid(document)


def test_report_meets_its_schema(printed):
    recipe = Path("net.qrecipe")
    more = "tune adaround { steps = 2 }\nrequire agreement >= 0%\n"
    recipe.write_text(recipe.read_text() + more)
    ran = CliRunner().invoke(main, ["run", "net.qrecipe", "-o", "out"])
    assert ran.exit_code == 0, ran.output
    document = json.loads(Path("out/report.json").read_text())
    assert document["units"][1]["reconstructions"]
    assert document["requirements"]
    validator("report-1.0.json").validate(document)
    validator("report-1.0.json").validate(printed("show", "out")["report"])
