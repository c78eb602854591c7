"""Commands without a result: a JSON document where one was promised, and the right status."""

import json

import jsonschema
import pytest
from click.testing import CliRunner

from qcompile.cli import main as entry
from qcompile.cli.main import main
from qcompile.diagnostics.explain import json_schema
from tests.driver.project import RECIPE, make_project


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("plan", "broken.qrecipe", "--json"), "QR201"),
        (("plan", "nowhere.qrecipe", "--json"), "QR114"),
        (("show", "nowhere.json", "--json"), "QR709"),
        (("verify", ".", "--json"), "QR903"),
        (("eval", ".", "--json"), "QR903"),
        (("check", "clean.qrecipe", "--policy", "std:nothing", "--json"), "QR205"),
        (("check", "clean.qrecipe", "--policy", "std:nothing", "--format", "json"), "QR205"),
    ],
)
def test_command_that_fails_still_prints_the_json_it_promised(folder, arguments, code):
    make_project(folder, RECIPE.replace("use w4a8", "use w5")).rename("broken.qrecipe")
    make_project(folder).rename("clean.qrecipe")
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert result.stderr == ""
    document = json.loads(result.stdout)
    jsonschema.Draft202012Validator(json.loads(json_schema())).validate(document)
    assert document["command"] == arguments[0]
    assert [item["code"] for item in document["diagnostics"]] == [code]


def test_without_json_problems_are_for_people(folder):
    result = CliRunner().invoke(main, ["plan", "nowhere.qrecipe"])
    assert result.stdout == ""
    assert "error[QR114]" in result.stderr


@pytest.mark.parametrize("command", entry.COMMANDS)
def test_interrupt_ends_every_command_with_130(command, monkeypatch):
    def interrupted(name):
        raise KeyboardInterrupt

    monkeypatch.setattr(entry, "import_module", interrupted)
    result = CliRunner().invoke(main, [command])
    assert result.exit_code == 130
    assert "Traceback" not in result.output
