"""What a run is expected to take: exact where shapes decide, in proportion where speeds do."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from qcompile.analysis.speeds import PassSpeed, ProductSpeed, Rate, SolverSpeed, Speeds
from qcompile.cli.main import main
from qcompile.diagnostics.failure import CompileError
from qcompile.driver import machine, run_forecast
from qcompile.driver.plan import Planned, plan_recipe
from qcompile.driver.tunes import tunings_by_node
from qcompile.passes.sweep import sweep
from tests.driver.project import RECIPE, make_project

SPEEDS = Speeds(
    machine={"cpu": "imagined", "threads": "2"},
    products=tuple(
        ProductSpeed(kind=kind, width=width, forward=1e-10, training=3e-10)
        for kind in ("linear", "conv", "depthwise")
        for width in (16, 256)
    ),
    passes=tuple(
        PassSpeed(kind=kind, forward=1e-9, training=3e-9)
        for kind in ("plain", "function", "norm", "quantize", "compare", "check", "save")
    ),
    solvers=tuple(
        SolverSpeed(kind=kind, column=1e-4, product=1e-9, cube=1e-11)
        for kind in ("ridge", "optq", "descent")
    ),
    call=4e-5,
    search=Rate(per_call=2e-4, per_item=1e-8),
    step=Rate(per_call=8e-4, per_item=4e-8),
    commit=0.02,
)


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_forecast, "machine_speeds", lambda: SPEEDS)
    return lambda *lines: make_project(tmp_path, RECIPE + "".join(f"{line}\n" for line in lines))


def forecast_of(planned: Planned, speeds: Speeds | None = SPEEDS):
    return run_forecast.run_forecast(planned.bound, planned.calibration, speeds)


def refused(path: Path):
    with pytest.raises(CompileError) as caught:
        plan_recipe(path)
    return caught.value.diagnostics


def test_saved_states_are_forecast_to_the_byte(project):
    planned = plan_recipe(project())
    core, bound = planned.plan.core, planned.bound
    outcomes = sweep(
        bound.graph,
        bound.units,
        {site.node: site for site in core.sites},
        planned.calibration.batches,
        tuning=core.tuning,
        tunings=tunings_by_node(core),
        seed=core.seed,
        device=torch.device("cpu"),
    )
    saved = [
        (
            one.unit,
            sum(t.nbytes for name, t in one.state.tensors.items() if name.startswith("value:")),
        )
        for one in outcomes
    ]
    found = forecast_of(planned)
    assert [(unit.unit, unit.state_bytes) for unit in found.units] == saved


def test_what_a_unit_holds_is_at_least_what_it_saves(project):
    found = forecast_of(plan_recipe(project()))
    assert all(unit.peak_bytes > unit.state_bytes for unit in found.units)
    assert found.peak_bytes > max(unit.peak_bytes for unit in found.units)


def test_time_is_the_sum_over_units_and_unknown_without_speeds(project):
    planned = plan_recipe(project())
    found = forecast_of(planned)
    assert found.seconds == pytest.approx(sum(unit.seconds for unit in found.units), abs=1e-2)
    unknown = forecast_of(planned, None)
    assert unknown.seconds is None
    assert {unit.seconds for unit in unknown.units} == {None}
    assert [u.peak_bytes for u in unknown.units] == [u.peak_bytes for u in found.units]


def test_learning_takes_time_in_proportion_to_its_steps(project):
    def seconds(steps: int) -> float:
        recipe = RECIPE.replace("tune rtn", f"tune brecq {{ steps = {steps} }}")
        return forecast_of(plan_recipe(make_project(Path.cwd(), recipe))).seconds

    project()
    base, one, three = seconds(0), seconds(1000), seconds(3000)
    assert three - base == pytest.approx(3 * (one - base), rel=1e-3)


def test_forecast_is_beside_the_core(project):
    path = project()
    with_it, without = plan_recipe(path, forecast=True).plan, plan_recipe(path).plan
    assert with_it.core == without.core
    assert without.beside.forecast is None
    assert with_it.beside.forecast.machine == SPEEDS.machine
    assert with_it.beside.forecast.samples == with_it.core.data.samples


@pytest.mark.parametrize(
    ("line", "figure"),
    [
        ("budget { time <= 0.01s }", "time"),
        ("budget { ram <= 1MB }", "ram"),
        ("budget { disk <= 1kB }", "disk"),
    ],
)
def test_run_that_is_too_dear_is_refused_with_its_dearest_blocks(project, line, figure):
    (problem,) = refused(project(line))
    assert problem.code.number == "QR707"
    assert f"`{figure}` is " in problem.primary.text
    assert any("blocks." in note for note in problem.notes)
    assert "fewer samples" in problem.help


def test_run_within_its_budget_is_planned(project):
    plan_recipe(project("budget { time <= 2h; ram <= 800GB; disk <= 4GB; size <= 1GB }"))


def test_limits_on_plan_and_run_are_told_apart(project):
    assert [d.code.number for d in refused(project("budget { size <= 1kB; ram <= 1MB }"))] == [
        "QR601"
    ]


def test_preview_is_held_to_a_budget_too(project):
    path = project("budget { disk <= 4GB }")
    plan_recipe(path, preview=True)
    path.write_text(path.read_text().replace("4GB", "1kB"))
    with pytest.raises(CompileError) as caught:
        plan_recipe(path, preview=True)
    assert [d.code.number for d in caught.value.diagnostics] == ["QR707"]


def test_plan_shows_the_forecast(project):
    path = project()
    shown = CliRunner().invoke(main, ["plan", str(path), "--forecast"])
    assert shown.exit_code == 0
    assert "expected of a run" in shown.stdout
    assert "on 2 threads" in shown.stdout
    document = json.loads(
        CliRunner().invoke(main, ["plan", str(path), "--forecast", "--json"]).stdout
    )
    units = document["plan"]["beside"]["forecast"]["units"]
    assert [unit["unit"] for unit in units][-1] == "head"
    markdown = CliRunner().invoke(main, ["plan", str(path), "--forecast", "--format", "markdown"])
    assert "of memory" in markdown.stdout


def test_machine_is_measured_once(tmp_path, monkeypatch):
    calls: list[dict[str, str]] = []

    def measured(of: dict[str, str]) -> Speeds:
        calls.append(of)
        return SPEEDS.model_copy(update={"machine": of})

    monkeypatch.setattr(machine, "user_cache_path", lambda name: tmp_path / name)
    monkeypatch.setattr(machine, "measure_speeds", measured)
    first = machine.machine_speeds()
    assert machine.machine_speeds() == first
    assert len(calls) == 1
    (kept,) = (tmp_path / "qcompile").iterdir()
    kept.write_text("{")  # damaged: measured anew
    assert machine.machine_speeds() == first
    assert len(calls) == 2
