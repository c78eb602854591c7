"""`tune ... for`: each block or layer is tuned by the last statement that selects it."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from qcompile.cli.plan_view import plan_text
from qcompile.diagnostics.failure import CompileError
from qcompile.driver.plan import plan_recipe
from qcompile.driver.run import run_subject
from qcompile.driver.run_options import RunOptions
from tests.driver.project import RECIPE, make_project

QUIET = RunOptions(work=Path("state"))
BRECQ = "brecq{} {{ steps = 8; batch = 8 }}\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *tunes: make_project(
        tmp_path, RECIPE + "".join(f"tune {tune}\n" for tune in tunes)
    )


def brecq(selector=""):
    return f"brecq{selector} {{ steps = 8; batch = 8 }}"


def report(folder):
    return json.loads((Path(folder) / "report.json").read_text())


def learned(folder):
    """What each unit learned, by name."""
    return {
        item["of"]: item["steps"]
        for unit in report(folder)["units"]
        for item in unit["reconstructions"]
    }


def test_only_the_selected_block_is_learned(project):
    run_subject(project(brecq(' for "blocks.0.**"')), Path("out"), QUIET)
    assert learned("out") == {"blocks.0": 8}


def test_the_general_tuning_is_for_the_rest_wherever_it_stands(project):
    run_subject(project('rtn for "blocks.0.**"', brecq()), Path("a"), QUIET)
    assert learned("a").keys() == {"conv", "blocks.1"}
    run_subject(project(brecq(), 'rtn for "blocks.0.**"'), Path("b"), QUIET)
    assert learned("b").keys() == {"conv", "blocks.1"}


def test_the_last_match_wins(project):
    path = project(brecq(' for "blocks.**"'), 'rtn for "blocks.1.**"')
    run_subject(path, Path("out"), QUIET)
    assert learned("out").keys() == {"blocks.0"}


def test_layers_of_one_block_may_differ_where_layers_are_learned(project):
    path = project('adaround for "blocks.0.conv2" { steps = 8; batch = 8 }')
    run_subject(path, Path("out"), QUIET)
    assert learned("out") == {"blocks.0.conv2": 8}


def test_a_part_of_a_block_that_is_learned_whole_is_refused(project):
    with pytest.raises(CompileError) as caught:
        plan_recipe(project(brecq(' for "blocks.0.conv2" or "blocks.1.**"')))
    (problem,) = caught.value.diagnostics
    assert problem.code.number == "QR716"
    assert "`blocks.0`" in problem.message
    assert problem.notes == ("selected: blocks.0.conv2", "not selected: blocks.0.conv1")


def test_the_rest_of_a_block_that_is_learned_whole_is_refused_as_well(project):
    with pytest.raises(CompileError) as caught:
        plan_recipe(project(brecq(), 'rtn for "blocks.0.conv2"'))
    assert [d.code.number for d in caught.value.diagnostics] == ["QR716"]


def test_selected_alike_gives_the_bytes_of_one_statement_for_all(project):
    run_subject(project(brecq()), Path("one"), QUIET)
    run_subject(project(brecq(" for conv")), Path("two"), QUIET)
    one, two = (load_file(f"{name}/model.safetensors") for name in ("one", "two"))
    assert all(one[name].equal(two[name]) for name in one)


def test_selectors_may_speak_of_blocks_and_of_schemes(project):
    core = plan_recipe(
        project(brecq(" for block(1..1)"), 'optq for scheme(w4a8) and "conv"')
    ).plan.core
    assert [(tune.tuning.preset, tune.sites) for tune in core.tunes] == [
        ("brecq", ("blocks.1.conv1", "blocks.1.conv2")),
        ("optq", ("conv",)),
    ]


def test_the_plan_shows_what_is_tuned_by_which_line(project):
    made = plan_recipe(project(brecq(' for "blocks.0.**"'))).plan
    text = plan_text(made)
    assert "tune brecq: blocks.0.conv1, blocks.0.conv2, net.qrecipe:13" in text
    assert "tune rtn: 3 other layers" in text
    assert "tune" not in plan_text(plan_recipe(project()).plan)


def test_a_tune_that_selects_nothing_or_decides_nothing_is_reported(project):
    with pytest.raises(CompileError) as caught:
        plan_recipe(project(brecq(' for "blokcs.**"')))
    assert [d.code.number for d in caught.value.diagnostics] == ["QR301"]
    shadowed = plan_recipe(project('optq for "conv"', 'rtn for "conv"'))
    assert [d.code.number for d in shadowed.diagnostics] == ["QR303"]


def test_progress_counts_the_steps_of_each_tuning(project):
    seen = []
    options = RunOptions(work=Path("state"), listener=seen.append)
    run_subject(project(brecq(' for "blocks.0.**"')), Path("out"), options)
    assert seen[-1].done <= seen[-1].total
    assert seen[-1].total == len(seen)
