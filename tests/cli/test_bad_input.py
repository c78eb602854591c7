"""Whatever a user can cause gets a code and a place; no traceback, nothing half-written."""

import json
import os
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from qcompile.cli.main import main
from tests.driver.project import RECIPE, make_project, poison, save_weights


def invoke(*arguments):
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert "Traceback" not in result.output
    assert "internal error" not in result.output
    return result


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # two edits within a second, of one length: compiled files could not tell them apart
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return make_project


def run(path, output="out"):
    return invoke("run", path, "-o", output, "-q")


def test_three_different_errors_are_all_reported(project, tmp_path):
    path = project(
        tmp_path,
        RECIPE.replace("use w4a8 for conv", "use w4a9 for conv")
        .replace("int4 symmetric", "int4 symetric")
        .replace("samples = 32", "smaples = 32"),
    )
    result = invoke("check", path)
    assert result.exit_code == 1
    for code in ("QR201", "QR404", "QR409"):
        assert code in result.output
    assert "did you mean `w4a8`" in result.output
    assert "did you mean `symmetric`" in result.output
    assert "did you mean `samples`" in result.output


def test_pattern_without_a_match_shows_the_nearest_paths(project, tmp_path):
    result = run(project(tmp_path, RECIPE.replace('"head"', '"heads"')))
    assert result.exit_code == 1
    assert "QR301" in result.output
    assert "head" in result.output.split("QR301")[1]
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("before", "after", "code"),
    [
        ("use w4a8", "use w5", "QR201"),
        ("batch = 8", "bacht = 8", "QR409"),
        ("calibrate", "expect size <= 60Mb\ncalibrate", "QR406"),
        ("factories:net", "factories:nett", "QR520"),
        ("factories:net", "factoriez:net", "QR520"),
        ("factories:net", "factories:raises", "QR521"),
        ("factories:net", "factories:nothing", "QR521"),
        ("factories:net", "factories:leaves", "QR521"),
        ("factories:net", "factories:Net.mro:x", "QR520"),
        ("factories:data", "factories:wrong_shape", "QR702"),
        ("factories:data", "factories:wrong_dtype", "QR702"),
        ("factories:data", "factories:empty", "QR711"),
        ("factories:data", "factories:with_nan", "QR712"),
        ("factories:data", "factories:raises", "QR710"),
        ("factories:data", "factories:dada", "QR710"),
        ("per_channel", "per_group(5)", "QR501"),
    ],
)
def test_problem_of_the_recipe_or_of_what_it_names(project, tmp_path, before, after, code):
    path = project(tmp_path, RECIPE.replace(before, after, 1))
    if "data" in before:
        path.write_text(
            path.read_text().replace(
                'model "factories:net"', 'model "factories:net" { input = float32[n, 1, 6, 6] }'
            )
        )
    result = run(path)
    assert result.exit_code == 1, result.output
    assert f"error[{code}]" in result.output
    assert not Path("out").exists()
    assert sorted(os.listdir()) == [
        "__pycache__",
        "factories.py",
        "net.qrecipe",
        "qcompile.toml",
    ] or (sorted(os.listdir()) == ["factories.py", "net.qrecipe", "qcompile.toml"])


def test_factory_that_prints_does_not_spoil_json(project, tmp_path):
    path = project(tmp_path, RECIPE.replace("factories:net", "factories:prints"))
    result = invoke("plan", path, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["plan"]["core"]["model"] == "factories:prints"


@pytest.mark.parametrize(
    ("change", "code", "shown"),
    [
        (lambda s: s.pop("head.bias"), "QR523", "head.bias"),
        (lambda s: s.update({"head.weight": s["head.weight"][:3].clone()}), "QR524", "head.weight"),
        (poison, "QR514", "blocks.0.conv1.weight"),
    ],
)
def test_weights_that_do_not_fit(project, tmp_path, change, code, shown):
    save_weights(tmp_path / "w.safetensors", change)
    path = project(
        tmp_path,
        RECIPE.replace(
            'model "factories:net"', 'model "factories:net" { weights = "w.safetensors" }'
        ),
    )
    result = run(path)
    assert result.exit_code == 1
    assert code in result.output
    assert shown in result.output


def test_output_that_holds_something_else_is_left_alone(project, tmp_path):
    path = project(tmp_path)
    Path("out").mkdir()
    Path("out/thesis.txt").write_text("years of work")
    for arguments in (("-q",), ("-q", "--replace")):
        result = invoke("run", path, "-o", "out", *arguments)
        assert result.exit_code == 1
        assert "QR901" in result.output
    assert os.listdir("out") == ["thesis.txt"]


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda p: p.write_text(p.read_text().replace("int4", "int3")), "recipe"),
        (lambda p: p.write_text(p.read_text().replace("factories:net", "factories:wide")), "model"),
        (
            lambda p: p.with_name("factories.py").write_text(
                p.with_name("factories.py").read_text().replace("manual_seed(1)", "manual_seed(2)")
            ),
            "data",
        ),
        (
            lambda p: p.with_name("factories.py").write_text(
                p.with_name("factories.py").read_text().replace("uniform_(0.5", "uniform_(0.6")
            ),
            "weights",
        ),
        (
            lambda p: p.with_name("factories.py").write_text(
                p.with_name("factories.py").read_text().replace("nn.ReLU()", "nn.GELU()")
            ),
            "graph",
        ),
    ],
)
def test_stale_plan_names_what_changed(project, tmp_path, edit, named):
    path = project(tmp_path)
    assert invoke("plan", path, "-o", "plan.json").exit_code == 0
    edit(path)
    result = invoke("run", "plan.json", "-o", "out", "-q")
    assert result.exit_code == 1
    assert "QR708" in result.output
    assert named in result.output.split("QR708")[1].splitlines()[0]
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", "QR709"),
        ("[]", "QR709"),
        ('{"format_version": "9.0"}', "QR908"),
        ('{"format_version": "1.0", "core": {}}', "QR709"),
    ],
)
def test_file_that_is_no_plan(tmp_path, text, code):
    file = tmp_path / "plan.json"
    file.write_text(text)
    for command in ("run", "show"):
        result = invoke(command, file)
        assert result.exit_code == 1
        assert code in result.output


def test_edited_plan_is_refused(project, tmp_path):
    path = project(tmp_path)
    invoke("plan", path, "-o", "plan.json")
    plan = Path("plan.json")
    plan.write_text(plan.read_text().replace('"bits":4', '"bits":8'))
    result = invoke("run", plan, "-o", "out", "-q")
    assert result.exit_code == 1
    assert "QR709" in result.output


def test_damaged_artifact_is_named(project, tmp_path):
    assert run(project(tmp_path)).exit_code == 0
    model = Path("out/model.safetensors")
    whole = model.read_bytes()
    for damaged in (whole[:-1], whole[: len(whole) // 2], bytes([*whole[:-1], whole[-1] ^ 1])):
        model.write_bytes(damaged)
        for command in ("verify", "eval", "show"):
            result = invoke(command, "out")
            assert result.exit_code == 1
            assert "QR902" in result.output
            assert "model.safetensors" in result.output
    model.write_bytes(whole)
    assert invoke("verify", "out").exit_code == 0


def test_folder_that_is_no_artifact(tmp_path):
    for command in ("verify", "eval", "show"):
        result = invoke(command, tmp_path)
        assert result.exit_code == 1
        assert "QR903" in result.output


def test_missing_recipe_and_unknown_code():
    result = invoke("check", "nowhere.qrecipe")
    assert result.exit_code == 1
    assert "QR114" in result.output
    result = invoke("explain", "QR999")
    assert result.exit_code == 2


def test_plan_runs_from_another_directory_of_the_project(project, tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    project(tmp_path / "sub")
    (tmp_path / "qcompile.toml").write_text("")
    (tmp_path / "sub" / "qcompile.toml").unlink()
    assert invoke("plan", "sub/net.qrecipe", "-o", "plan.json").exit_code == 0
    text = Path("plan.json").read_text()
    assert str(tmp_path) not in text
    monkeypatch.chdir(tmp_path / "sub")
    assert invoke("plan", "net.qrecipe", "-o", "again.json").exit_code == 0
    assert Path("again.json").read_text() == text
    assert invoke("plan", tmp_path / "sub" / "net.qrecipe", "-o", "abs.json").exit_code == 0
    assert Path("abs.json").read_text() == text
    assert invoke("run", "../plan.json", "-o", "out", "-q").exit_code == 0
    assert invoke("eval", "out", "--float").exit_code == 0


WEIGHTS_ONLY = RECIPE.replace("  act uint8 asymmetric per_tensor\n", "").replace(
    'calibrate { data = "factories:data"; samples = 32; batch = 8; seed = 3 }\n', ""
)


def test_model_whose_inputs_nothing_describes(project, tmp_path):
    result = invoke("plan", project(tmp_path, WEIGHTS_ONLY))
    assert result.exit_code == 1
    assert "QR211" in result.output
    assert "float32[batch" in result.output


def test_range_that_a_set_line_made_static_needs_data(project, tmp_path):
    recipe = WEIGHTS_ONLY.replace(
        "weight int4 symmetric per_channel", "weight int4\n  act uint8 dynamic"
    ).replace('skip "head"', 'set act.dynamic = false for conv\n  skip "head"')
    recipe = recipe.replace('"factories:net"', '"factories:net" { input = float32[n, 1, 6, 6] }')
    result = invoke("plan", project(tmp_path, recipe))
    assert result.exit_code == 1
    assert "QR211" in result.output


def test_preset_that_learns_needs_data(project, tmp_path):
    result = invoke("check", project(tmp_path, WEIGHTS_ONLY + "tune brecq\n"))
    assert result.exit_code == 1
    assert "QR211" in result.output


def test_wrong_use_of_options_is_a_usage_error(project, tmp_path):
    path = project(tmp_path)
    for arguments in (
        ("plan", path, "-o", "plan.txt"),
        ("plan", path, "-o", "plan.json", "--model", "zoo:resnet20"),
        ("run", path, "--device", "abacus"),
    ):
        assert invoke(*arguments).exit_code == 2


def test_evaluation_that_does_not_fit_the_artifact(project, tmp_path):
    assert run(project(tmp_path)).exit_code == 0
    result = invoke("eval", "out", "--data", "factories:wrong_shape")
    assert result.exit_code == 1
    assert "QR702" in result.output
    result = invoke("eval", "out", "--metric", "agreement")
    assert result.exit_code == 1
    assert "--float" in result.output
    Path("out/report.json").unlink()
    assert invoke("show", "out").exit_code == 0


@pytest.mark.parametrize("report", ["{}", "[]", '{"units": 3}', "[" * 100_000, '{"units": [NaN]}'])
def test_report_of_a_run_that_says_something_else(project, tmp_path, report):
    assert run(project(tmp_path)).exit_code == 0
    Path("out/report.json").write_text(report)
    assert invoke("show", "out").exit_code == 0
    assert json.loads(invoke("show", "out", "--json").stdout)["report"] is None
