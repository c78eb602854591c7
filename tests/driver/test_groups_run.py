"""`groups` of `calibrate`, from the recipe to the run: whole groups judge what others fitted."""

import json
from pathlib import Path

import pytest

from qcompile.cli.plan_view import plan_text
from qcompile.diagnostics.failure import CompileError
from qcompile.driver.plan import plan_recipe
from qcompile.driver.run import RunOptions, run_subject
from tests.driver.project import RECIPE, make_project

QUIET = RunOptions(work=Path("state"))
CROPS = """

def crops():
    # 12 pictures, four crops of each: all of one are nearly alike
    generator = torch.Generator().manual_seed(1)
    picture = torch.arange(48) % 12
    noise = 0.1 * torch.randn(48, 1, 6, 6, generator=generator)
    pictures = torch.randn(12, 1, 6, 6, generator=generator)
    pictures = pictures * torch.arange(1, 13).view(-1, 1, 1, 1)
    return {"x": pictures[picture] + noise, "picture": picture}
"""
DATA = 'data = "factories:data"'
GROUPED = 'data = "factories:crops"; groups = "picture"'


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def made(tune, data=GROUPED):
        path = make_project(tmp_path, RECIPE.replace(DATA, data) + f"tune {tune}\n")
        with Path(tmp_path, "factories.py").open("a") as file:
            file.write(CROPS)
        return path

    return made


def test_the_plan_says_how_many_groups_judge(project):
    made = plan_recipe(project("hybrid"))
    data = made.plan.core.data
    assert data is not None
    assert data.groups is not None
    assert data.groups.tensor == "picture"
    count, judging = data.groups.count, data.groups.judging
    assert f"{data.samples} of {count} groups, of which {judging} judge)" in plan_text(made.plan)
    batches = made.calibration.batches
    assert all(batch.keys() == {"x"} for batch in batches)
    sizes = [len(batch["x"]) for batch in batches]
    held = sum(sizes[-data.groups.judging_batches :])
    pictures = [index % 12 for index in data.indices]
    assert set(pictures[-held:]).isdisjoint(pictures[:-held])
    assert len(set(pictures[-held:])) == judging


def test_a_plan_without_groups_does_not_name_them(project):
    plan = plan_recipe(project("hybrid", DATA)).plan
    assert "groups" not in json.loads(plan.model_dump_json())["core"]["data"]
    assert "groups" not in plan_text(plan)


def test_whole_groups_judge_what_is_learned(project):
    tune = "hybrid { solver = [optq, cd, gradient]; partition = block; steps = 2; batch = 8 }"
    path = project(tune)
    data = plan_recipe(path).plan.core.data
    assert data is not None
    assert data.groups is not None
    run_subject(path, Path("out"), QUIET)
    report = json.loads(Path("out/report.json").read_text())
    pictures = [index % 12 for index in data.indices]
    last = pictures[-1]
    held = {
        account["held_out_samples"]
        for unit in report["units"]
        for account in unit["reconstructions"]
    }
    (count,) = held
    assert last in pictures[-count:]
    assert set(pictures[-count:]).isdisjoint(pictures[:-count])


def test_groups_change_what_the_solver_of_layers_chooses(project):
    chosen = {}
    for name, data in (
        ("apart", GROUPED),
        ("mixed", 'data = "factories:crops"; labels = "picture"'),
    ):
        run_subject(project("hybrid", data), Path(name), QUIET)
        report = json.loads(Path(name, "report.json").read_text())
        sites = [site for unit in report["units"] for site in unit["sites"]]
        chosen[name] = [(site["damping"], site["target"]) for site in sites if site["damping"]]
        assert {target for _, target in chosen[name]} <= {"residual", "symmetric"}
    assert chosen["apart"] != chosen["mixed"]


def test_a_tensor_that_is_not_there_is_named(project):
    with pytest.raises(CompileError) as caught:
        plan_recipe(
            project("hybrid", 'data = "factories:crops"; groups = "pictures"; labels = "picture"')
        )
    assert [found.code.number for found in caught.value.diagnostics] == ["QR717"]
