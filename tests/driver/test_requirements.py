"""`require` is looked at when the run is over; `budget` when the plan is made."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from qcompile.cli.main import main
from qcompile.cli.plan_view import plan_text
from qcompile.diagnostics.failure import CompileError
from qcompile.driver.evaluate import compare
from qcompile.driver.load import verify
from qcompile.driver.plan import plan_recipe
from qcompile.driver.run import run_subject
from qcompile.driver.run_options import RunOptions
from tests.driver.project import RECIPE, make_project

QUIET = RunOptions(work=Path("state"))


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *lines: make_project(tmp_path, RECIPE + "".join(f"{line}\n" for line in lines))


def report(folder="out"):
    return json.loads((Path(folder) / "report.json").read_text())


def test_what_holds_is_in_the_report(project):
    run_subject(project("require accuracy_drop <= 100%"), Path("out"), QUIET)
    found = report()
    assert not found["failed"]
    (row,) = found["requirements"]
    assert row == {"text": "require accuracy_drop <= 100%", "holds": True, "found": None}


def test_figures_are_those_that_eval_measures(project):
    lines = ("require top1 >= 0%", "require agreement >= 0%", "require sqnr(output) >= -100dB")
    run_subject(
        project(*lines, "require accuracy_drop <= 100%", "require cosine >= -1"), Path("out"), QUIET
    )
    figures = report()["figures"]
    metrics = ["top1", "agreement", "sqnr", "cosine"]
    by_eval = {e.metric: e for e in compare(Path("out"), metrics=metrics, with_float=True)}
    assert figures["top1"] == pytest.approx(100 * by_eval["top1"].value)
    assert figures["agreement"] == pytest.approx(100 * by_eval["agreement"].value)
    assert figures["sqnr"] == pytest.approx(by_eval["sqnr"].value, rel=1e-3)
    assert figures["cosine"] == pytest.approx(by_eval["cosine"].value, rel=1e-5)
    drop = 100 * (by_eval["top1"].reference_value - by_eval["top1"].value)
    assert figures["accuracy_drop"] == pytest.approx(drop)


def test_what_fails_keeps_the_artifact_and_says_so(project):
    path = project('require sqnr >= 140dB, "it must be exact"')
    with pytest.raises(CompileError) as caught:
        run_subject(path, Path("out"), QUIET)
    (problem,) = caught.value.diagnostics
    assert problem.code.number == "QR606"
    assert "`sqnr` is" in problem.primary.text
    assert problem.notes[0] == "reason given: it must be exact"
    assert report()["failed"]
    assert not report()["requirements"][0]["holds"]
    assert verify("out") == []
    assert not list(Path("state").iterdir())  # there is nothing to resume


def test_a_failed_requirement_is_exit_status_4(project):
    project("require sqnr >= 140dB")
    result = CliRunner().invoke(main, ["run", "net.qrecipe", "-o", "out", "-q"])
    assert result.exit_code == 4
    assert Path("out/manifest.json").exists()


def test_facts_of_the_plan_may_stand_beside_figures_of_the_run(project):
    with pytest.raises(CompileError) as caught:
        run_subject(project("require accuracy_drop <= 100% and size <= 1kB"), Path("out"), QUIET)
    assert [d.code.number for d in caught.value.diagnostics] == ["QR606"]
    assert "`size` is" in caught.value.diagnostics[0].primary.text


def test_a_metric_of_the_users_own_gives_the_accuracy(project):
    path = project("require accuracy_drop <= 100%")
    path.write_text(path.read_text().replace("evaluate top1", 'evaluate "factories:hits"'))
    text = Path("factories.py").read_text()
    text += "\n\ndef hits(outputs, batch):\n    return float(len(outputs)) / 4, len(outputs)\n"
    Path("factories.py").write_text(text)
    run_subject(path, Path("out"), QUIET)
    assert report()["figures"] == {"accuracy_drop": 0.0}


def test_data_that_is_not_there_is_said_before_the_run(project):
    path = project("require accuracy_drop <= 1%")
    path.write_text(path.read_text().replace("factories:labelled", "factories:labeled"))
    with pytest.raises(CompileError) as caught:
        plan_recipe(path)
    assert [d.code.number for d in caught.value.diagnostics] == ["QR710"]


def test_the_plan_says_what_will_be_looked_at(project):
    made = plan_recipe(project("require accuracy_drop <= 1%")).plan
    assert "after the run: require accuracy_drop <= 1%" in plan_text(made)


def test_a_budget_is_held_against_the_exact_forecast(project):
    size = plan_recipe(project()).plan.core.bytes_after
    kilo = f"{size / 1000:.3f}"
    plan_recipe(project(f"budget {{ size <= {kilo}kB; avg_bits(weight) <= 4 }}"))
    with pytest.raises(CompileError) as caught:
        plan_recipe(project(f"budget {{ size < {kilo}kB; avg_bits(weight) <= 3.5 }}"))
    problems = caught.value.diagnostics
    assert [d.code.number for d in problems] == ["QR601", "QR601"]
    assert problems[0].primary.text == f"`size` is {size}"
    assert any("by `use " in note and ".qrecipe:" in note for note in problems[0].notes)
    assert any("in float: " in note for note in problems[0].notes)
    assert problems[1].notes


def test_parts_of_a_size_add_up_to_it(project):
    planned = plan_recipe(project())
    parts = planned.bound.measured.parts
    assert sum(part.nbytes for part in parts) == planned.plan.core.bytes_after


@pytest.mark.parametrize(
    ("line", "marked"),
    [
        ("prepare bias_correction", "bias_correction"),
        ('target "x86-vnni"', '"x86-vnni"'),
    ],
)
def test_what_is_not_carried_out_is_refused_by_plan_and_not_by_check(project, line, marked):
    path = project(line)
    assert CliRunner().invoke(main, ["check", str(path)]).exit_code == 0
    with pytest.raises(CompileError) as caught:
        plan_recipe(path)
    (problem,) = caught.value.diagnostics
    assert (problem.code.number, problem.primary.span.text) == ("QR290", marked)
    assert problem.help
