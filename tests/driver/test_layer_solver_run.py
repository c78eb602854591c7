"""`tune hybrid`, from the recipe to the artifact: biases that are set anew, and said to be."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import qcompile
from qcompile.cli.plan_view import plan_text
from qcompile.driver.load import verify
from qcompile.driver.plan import plan_recipe
from qcompile.driver.progress import StopRequestedError
from qcompile.driver.run import execute, run_subject
from qcompile.driver.run_options import RunOptions
from qcompile.emit.lower.difference import relative
from qcompile.emit.lower.exact import simulation
from qcompile.emit.materialize import materialize
from tests.driver.project import RECIPE, make_project

QUIET = RunOptions(work=Path("state"))


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda tune: make_project(tmp_path, RECIPE + f"tune {tune}\n")


def stored(folder):
    return load_file(f"{folder}/model.safetensors")


def refits(made):
    return {path for site in made.plan.core.sites for path in site.refits}


def test_the_plan_names_each_bias_that_a_run_sets(project):
    made = plan_recipe(project("hybrid"))
    weights = {
        tensor.parameter
        for site in made.plan.core.sites
        for tensor in site.tensors
        if tensor.slot == "weight"
    }
    assert refits(made) == {path.replace(".weight", ".bias") for path in weights}
    assert f"biases set anew with the codes: {len(weights)} layers" in plan_text(made.plan)
    assert not refits(plan_recipe(project("hybrid { learn = [rounding, scale] }")))
    assert not refits(plan_recipe(project("optq")))


def test_only_the_named_biases_change_and_the_artifact_holds(project):
    run_subject(project("rtn"), Path("nearest"), QUIET)
    path = project("hybrid")
    run_subject(path, Path("solved"), QUIET)
    made = plan_recipe(path)
    named = refits(made)
    nearest, solved = stored("nearest"), stored("solved")
    floats = {name for name in solved if ":" not in name}
    assert named < floats
    assert nearest.keys() == solved.keys()
    for name in floats:
        assert torch.equal(nearest[name], solved[name]) == (name not in named), name
    given = {name: tensor.contiguous() for name, tensor in made.bound.graph.state_dict().items()}
    save_file(given, "float.safetensors")
    assert verify("solved", [Path("float.safetensors")]) == []


def test_the_loaded_model_has_the_new_biases_and_a_smaller_error(project):
    errors = {}
    for tune in ("rtn", "hybrid"):
        run_subject(project(tune), Path(tune), QUIET)
        report = json.loads((Path(tune) / "report.json").read_text())
        errors[tune] = report["units"][-1]["output_error"]
        dampings = {site["damping"] for unit in report["units"] for site in unit["sites"]}
        assert dampings - {None} <= ({0.0, 0.01, 0.1, 1.0} if tune == "hybrid" else set())
    assert errors["hybrid"] < errors["rtn"]
    graph = qcompile.load("hybrid")
    bias = next(path for path in refits(plan_recipe(project("hybrid"))))
    assert torch.equal(dict(graph.named_parameters())[bias], stored("hybrid")[bias])


def test_a_part_of_the_layers_may_be_solved(project):
    path = project('hybrid for "blocks.1.**"')
    assert {name.split(".")[1] for name in refits(plan_recipe(path))} == {"1"}
    run_subject(path, Path("out"), QUIET)
    assert verify("out") == []


def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(project):
    path = project("hybrid")
    run_subject(path, Path("whole"), QUIET)
    seen = []

    def stop_late():
        seen.append(0)
        return len(seen) > 3

    options = RunOptions(work=Path("other"), should_stop=stop_late)
    with pytest.raises(StopRequestedError):
        run_subject(path, Path("parts"), options)
    run_subject(path, Path("parts"), RunOptions(work=Path("other")))
    for name in ("model.safetensors", "graph.json", "plan.json", "manifest.json"):
        assert Path("whole", name).read_bytes() == Path("parts", name).read_bytes()


def test_the_guard_may_take_nearest_rounding_with_the_bias_as_it_was(project, monkeypatch):
    monkeypatch.setattr("qcompile.passes.reconstruct.best", lambda errors: "nearest")
    tune = "hybrid { solver = [optq, cd, gradient]; partition = layer; steps = 2; batch = 8 }"
    path = project(tune)
    run_subject(path, Path("guarded"), QUIET)
    run_subject(project("rtn"), Path("nearest"), QUIET)
    guarded, nearest = stored("guarded"), stored("nearest")
    assert all(torch.equal(guarded[name], nearest[name]) for name in nearest)


def test_what_is_measured_before_the_artifact_is_written_is_what_it_computes(project):
    planned = plan_recipe(project("hybrid"))
    execute(planned, Path("out"), QUIET)
    made = materialize(planned.bound.graph, planned.plan.core, stored("out"))
    x = torch.randn(3, 1, 6, 6, generator=torch.Generator().manual_seed(3))
    assert torch.equal(simulation(made)(x), qcompile.load("out")(x))
    assert relative(made(x), qcompile.load("out")(x)) < 5e-3


def test_a_preview_names_the_same_biases(project):
    path = project("hybrid")
    assert refits(plan_recipe(path, preview=True)) == refits(plan_recipe(path))
