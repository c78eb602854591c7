"""`groups` of `calibrate`, from the recipe to the run: whole groups judge what others fitted."""

import json
from pathlib import Path

import pytest

from qcompile.cli.plan_view import plan_text
from qcompile.diagnostics.failure import CompileError
from qcompile.driver.plan import plan_recipe
from qcompile.driver.run import run_subject
from qcompile.driver.run_options import RunOptions
from qcompile.passes.held_out import JUDGING, split
from tests.driver.project import RECIPE, make_project

QUIET = RunOptions(work=Path("state"))
CROPS = """

def crops():
    # five pictures, about ten crops of each: all of one are nearly alike
    generator = torch.Generator().manual_seed(1)
    picture = torch.arange(48) % 5
    noise = 0.1 * torch.randn(48, 1, 6, 6, generator=generator)
    pictures = torch.randn(5, 1, 6, 6, generator=generator)
    pictures = pictures * torch.arange(1, 6).view(-1, 1, 1, 1)
    return {"x": pictures[picture] + noise, "picture": picture}
"""
DATA = 'data = "factories:data"'
GROUPED = 'data = "factories:crops"; groups = "picture"'


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def made(tune, data=GROUPED, batch=8):
        recipe = RECIPE.replace(DATA, data).replace("batch = 8", f"batch = {batch}")
        path = make_project(tmp_path, recipe + f"tune {tune}\n")
        with Path(tmp_path, "factories.py").open("a") as file:
            file.write(CROPS)
        return path

    return made


def parted(path):
    """Pictures of the samples that judge, and of the others, in the plan's order."""
    made = plan_recipe(path)
    data = made.plan.core.data
    assert data is not None
    assert data.groups is not None
    pictures = [index % 5 for index in data.indices]
    held = data.groups.judging_samples
    return made, pictures[-held:], pictures[:-held]


def test_the_plan_says_how_many_groups_judge(project):
    made, judging, fitted = parted(project("hybrid"))
    data = made.plan.core.data
    assert data.groups.tensor == "picture"
    assert data.groups.count == len({*judging, *fitted})
    assert data.groups.judging == len(set(judging))
    assert set(judging).isdisjoint(fitted)
    said = f"{data.samples} of {data.groups.count} groups, of which {data.groups.judging} with"
    assert f"{said} {len(judging)} samples judge)" in plan_text(made.plan)
    assert all(batch.keys() == {"x"} for batch in made.calibration.batches)


def test_a_plan_without_groups_does_not_name_them(project):
    plan = plan_recipe(project("hybrid", DATA)).plan
    assert "groups" not in json.loads(plan.model_dump_json())["core"]["data"]
    assert "groups" not in plan_text(plan)


@pytest.mark.parametrize("partition", ["block", "layer"])
def test_whole_groups_judge_what_is_learned(project, partition):
    """More batches than one in eight judge: groups decide how many."""
    tune = (
        f"hybrid {{ solver = [optq, cd, gradient]; partition = {partition}; steps = 2; batch = 2 }}"
    )
    path = project(tune)
    made, judging, _ = parted(path)
    batches = len(made.calibration.batches)
    assert made.calibration.judging == len(judging) / 2 > batches // JUDGING
    run_subject(path, Path("out"), QUIET)
    report = json.loads(Path("out/report.json").read_text())
    accounts = [one for unit in report["units"] for one in unit["reconstructions"]]
    assert {account["held_out_samples"] for account in accounts} == {len(judging)}


def test_whole_groups_judge_what_solvers_of_layers_fit(project, monkeypatch):
    path = project("hybrid", batch=2)
    seen = []

    def watched(batches, judging=None):
        seen.append((batches, judging))
        return split(batches, judging)

    monkeypatch.setattr("qcompile.passes.solvers.split", watched)
    used = plan_recipe(path).calibration
    run_subject(path, Path("out"), QUIET)
    assert set(seen) == {(len(used.batches), used.judging)}
    assert used.judging > len(used.batches) // JUDGING


def test_sites_say_what_was_fitted(project):
    run_subject(project("hybrid"), Path("out"), QUIET)
    report = json.loads(Path("out/report.json").read_text())
    sites = [site for unit in report["units"] for site in unit["sites"]]
    fitted = [site for site in sites if site["damping"]]
    assert fitted
    assert {site["target"] for site in fitted} == {"residual"}
    assert all(0 <= site["blend"] <= 1 for site in fitted)
    rounded = [(site["target"], site["blend"]) for site in sites if not site["damping"]]
    assert set(rounded) <= {(None, None)}


@pytest.mark.parametrize("line", ["", 'labels = "label"'])
def test_a_tensor_that_is_not_there_is_named_before_the_model_is_traced(project, line):
    data = f'data = "factories:crops"; groups = "pictures"; {line}'
    with pytest.raises(CompileError) as caught:
        plan_recipe(project("hybrid", data))
    (problem,) = caught.value.diagnostics
    assert problem.code.number == "QR717"
    assert problem.help == "did you mean `picture`?"


def test_a_plan_does_not_run_on_other_groups(project, tmp_path):
    path = project("hybrid")
    saved = plan_recipe(path).plan
    Path("plan.json").write_text(saved.model_dump_json())
    factories = tmp_path / "factories.py"
    factories.write_text(factories.read_text().replace("% 5", "% 4"))
    with pytest.raises(CompileError) as caught:
        run_subject(Path("plan.json"), Path("out"), QUIET)
    assert [found.code.number for found in caught.value.diagnostics] == ["QR708"]


def test_a_forecast_knows_that_batches_are_cut_at_the_groups(project):
    found = [
        plan_recipe(project("hybrid", data, batch=32), forecast=True).plan.beside.forecast
        for data in (GROUPED, DATA)
    ]
    apart, mixed = ([unit.streams_bytes for unit in one.units] for one in found)
    assert apart == pytest.approx(mixed, rel=0.02)
