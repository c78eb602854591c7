"""``qcompile check`` as people, editors and CI call it."""

import json
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner, Result

from qcompile.cli.main import main
from qcompile.diagnostics.explain import json_schema
from tests.driver.project import RECIPE, make_project

CLEAN = "qrecipe 1\nscheme w8 { weight int8 }\npolicy main { use w8 for linear }\n"
UNUSED = CLEAN.replace("qrecipe 1\n", 'qrecipe 1\nmodel "zoo:resnet20"\nselect tmp = conv\n')
WRONG = CLEAN.replace("use w8", "use w9")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, text in (("clean", CLEAN), ("unused", UNUSED), ("wrong", WRONG)):
        Path(f"{name}.qrecipe").write_text(text)
    return tmp_path


def check(*arguments: str) -> Result:
    result = CliRunner().invoke(main, ["check", *arguments])
    assert "internal error" not in result.output
    return result


def test_json_meets_its_published_schema() -> None:
    result = check("wrong.qrecipe", "unused.qrecipe", "--format", "json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    jsonschema.Draft202012Validator(json.loads(json_schema())).validate(document)
    assert [item["code"] for item in document["diagnostics"]] == ["QR201", "QR206"]
    assert check("wrong.qrecipe", "unused.qrecipe", "--json").stdout == result.stdout


def test_github_prints_one_command_for_each_problem() -> None:
    result = check("wrong.qrecipe", "unused.qrecipe", "clean.qrecipe", "--format", "github")
    first, second = result.stdout.splitlines()
    assert first.startswith("::error file=wrong.qrecipe,line=3,col=19,")
    assert second.startswith("::warning file=unused.qrecipe,line=3,col=8,")


def test_sarif_is_one_run_over_all_files() -> None:
    (run,) = json.loads(check("wrong.qrecipe", "missing", "--format", "sarif").stdout)["runs"]
    places = [
        result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        for result in run["results"]
    ]
    assert places == ["wrong.qrecipe", "missing"]


def test_select_and_ignore_choose_codes_by_prefix() -> None:
    assert check("unused.qrecipe", "--warn-as-error").exit_code == 1
    assert check("unused.qrecipe", "--warn-as-error", "--ignore", "QR2").exit_code == 0
    assert check("unused.qrecipe", "--warn-as-error", "--select", "qr3,QR5").exit_code == 0
    assert check("unused.qrecipe", "--warn-as-error", "--select", "QR206").exit_code == 1


def test_prefix_of_no_code_is_a_usage_error() -> None:
    for wrong in ("QR9999", "E5", "QR3,", ""):
        result = check("unused.qrecipe", "--select", wrong)
        assert result.exit_code == 2


def test_statistics_count_codes() -> None:
    result = check("unused.qrecipe", "unused.qrecipe", "wrong.qrecipe", "--statistics")
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["2", "QR206", "warning", "unused-name"],
        ["1", "QR201", "error", "unknown-name"],
    ]
    as_json = json.loads(check("unused.qrecipe", "--statistics", "--json").stdout)
    assert as_json["statistics"] == {"QR206": 1}


def test_diff_shows_and_fix_writes(folder: Path) -> None:
    result = check("unused.qrecipe", "--diff")
    assert result.exit_code == 1
    assert "\n-select tmp = conv\n" in result.stdout
    assert Path("unused.qrecipe").read_text() == UNUSED
    result = check("unused.qrecipe", "--fix")
    assert result.exit_code == 0
    assert "fixed QR206 unused-name at unused.qrecipe:3:8" in result.stderr
    assert Path("unused.qrecipe").read_text() == UNUSED.replace("select tmp = conv\n", "")
    assert check("unused.qrecipe", "--diff").exit_code == 0
    assert sorted(p.name for p in folder.iterdir()) == [
        "clean.qrecipe",
        "unused.qrecipe",
        "wrong.qrecipe",
    ]


def test_fix_leaves_what_it_cannot_read_to_the_check() -> None:
    assert "QR114" in check("missing", "--fix").output


def test_file_that_cannot_be_written_is_a_diagnostic(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object, path: Path) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("qcompile.store.disk.Disk.create", refuse)
    result = check("unused.qrecipe", "--fix")
    assert "QR905" in result.output
    assert Path("unused.qrecipe").read_text() == UNUSED


def test_warning_of_the_model_is_silenced_where_the_model_is_known(folder: Path) -> None:
    shadowed = 'policy main {\n  use w4a8 for "head" # qcompile: ignore[QR303] to be shown'
    path = make_project(folder, RECIPE.replace("policy main {", shadowed))
    assert check(str(path), "--model").exit_code == 0
    assert "QR" not in check(str(path), "--model").output
    assert "QR" not in check(str(path)).output
    path.write_text(path.read_text().replace("# qcompile: ignore[QR303] to be shown", ""))
    assert "QR303" in check(str(path), "--model").output


def test_unused_suppression_of_the_model_is_reported_with_the_model(folder: Path) -> None:
    path = make_project(
        folder, RECIPE.replace('skip "head"', 'skip "head" # qcompile: ignore[QR303] old')
    )
    assert "QR" not in check(str(path)).output
    assert "QR190" in check(str(path), "--model").output
    plan = CliRunner().invoke(main, ["plan", str(path)])
    assert plan.exit_code == 0
    assert "QR190" in plan.output
