"""Imports and parameters on their way into plans, runs and artifacts."""

import pytest

from qcompile.diagnostics.failure import CompileError
from qcompile.driver.evaluate import compare
from qcompile.driver.plan import plan_recipe
from qcompile.driver.run import run_subject
from qcompile.driver.run_options import RunOptions
from qcompile.driver.saved_plan import read_plan, save_plan
from tests.driver.project import RECIPE, make_project

LIBRARY = """\
qrecipe 1
param bits: int = 4 in 2..8
scheme w4a8 {
  weight int4 symmetric per_channel bits=bits
  act uint8 asymmetric per_tensor
}
"""
IMPORTING = RECIPE.replace("policy main {", 'import "lib/s.qrecipe" as s\npolicy main {').replace(
    "use w4a8", "use s.w4a8"
)
IMPORTING = IMPORTING.replace(RECIPE[RECIPE.index("scheme") : RECIPE.index("policy")], "")


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "s.qrecipe").write_text(LIBRARY)
    monkeypatch.chdir(tmp_path)
    return make_project(tmp_path, IMPORTING).relative_to(tmp_path)


def options(tmp_path):
    return RunOptions(work=tmp_path / "work", threads=1)


def test_every_file_is_in_the_plan_by_name_hash_and_text(recipe):
    plan = plan_recipe(recipe).plan
    assert [item.name for item in plan.core.recipe] == ["net.qrecipe", "lib/s.qrecipe"]
    assert plan.beside.recipe_texts["lib/s.qrecipe"] == LIBRARY
    assert {site.scheme for site in plan.core.sites if site.tensors} == {"s.w4a8"}


def test_names_of_files_do_not_depend_on_the_way_to_the_recipe(recipe, tmp_path):
    here, there = plan_recipe(recipe).plan, plan_recipe(tmp_path / recipe).plan
    assert here.core.recipe == there.core.recipe


def test_changed_import_makes_a_saved_plan_stale(recipe, tmp_path):
    save_plan(plan_recipe(recipe).plan, tmp_path / "plan.json")
    (tmp_path / "lib" / "s.qrecipe").write_text(LIBRARY + "# another byte\n")
    with pytest.raises(CompileError) as refused:
        run_subject(tmp_path / "plan.json", tmp_path / "out", options(tmp_path))
    (problem,) = refused.value.diagnostics
    assert problem.code.number == "QR708"
    assert "recipe changed" in problem.message


def test_saved_plan_runs_with_the_parameters_it_was_made_with(recipe, tmp_path):
    made = plan_recipe(recipe, params={"s.bits": "3"}).plan
    assert made.core_sha256 != plan_recipe(recipe).plan.core_sha256
    save_plan(made, tmp_path / "plan.json")
    done = run_subject(tmp_path / "plan.json", tmp_path / "out", options(tmp_path))
    assert done.plan.core_sha256 == made.core_sha256
    assert done.plan.core.params == read_plan(tmp_path / "out" / "plan.json").core.params
    weights = {t.spec.bits for s in done.plan.core.sites for t in s.tensors if t.slot == "weight"}
    assert weights == {3}


def test_saved_plan_refuses_other_parameters(recipe, tmp_path):
    save_plan(plan_recipe(recipe).plan, tmp_path / "plan.json")
    with pytest.raises(CompileError) as refused:
        run_subject(
            tmp_path / "plan.json", tmp_path / "out", options(tmp_path), params={"s.bits": "5"}
        )
    (problem,) = refused.value.diagnostics
    assert problem.code.number == "QR708"
    assert "parameters" in problem.message


def test_artifact_finds_its_float_model_through_the_closure_it_keeps(recipe, tmp_path):
    run_subject(recipe, tmp_path / "out", options(tmp_path))
    (tmp_path / "lib" / "s.qrecipe").unlink()
    (tmp_path / recipe).unlink()
    found = compare(tmp_path / "out", with_float=True)
    assert {item.metric for item in found} == {"top1", "agreement"}
