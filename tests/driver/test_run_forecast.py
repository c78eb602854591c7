"""What a run is expected to take: exact where shapes decide, in proportion where speeds do."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from qcompile.analysis import run_seconds
from qcompile.analysis.speeds import PassSpeed, ProductSpeed, Rate, SolverSpeed, Speeds
from qcompile.cli.main import main
from qcompile.diagnostics.failure import CompileError
from qcompile.driver import machine, process_memory, run_forecast
from qcompile.driver.plan import Planned, plan_recipe
from qcompile.driver.run import run_subject
from qcompile.driver.run_options import RunOptions
from qcompile.driver.tunes import tunings_by_node
from qcompile.passes.sweep import sweep
from tests.driver.project import RECIPE, make_project

SPEEDS = Speeds(
    machine={"cpu": "imagined", "threads": "2"},
    products=tuple(
        ProductSpeed(kind=kind, width=width, forward=1e-10, training=3e-10, training_bf16=2e-10)
        for kind in ("linear", "conv", "depthwise", "attention")
        for width in (16, 256)
    ),
    passes=tuple(
        PassSpeed(kind=kind, elements=1 << 16, forward=1e-9, training=3e-9)
        for kind in ("plain", "function", "norm", "quantize", "drop", "compare", "check", "save")
    ),
    solvers=tuple(
        SolverSpeed(kind=kind, column=1e-4, product=1e-9, cube=1e-11)
        for kind in ("ridge", "optq", "descent", "refit")
    ),
    call=4e-5,
    search=Rate(per_call=2e-4, per_item=1e-8),
    levels=Rate(per_call=4e-4, per_item=2e-8),
    step=Rate(per_call=8e-4, per_item=4e-8),
    new=0.0,
    commit=0.02,
)


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_forecast, "machine_speeds", lambda: SPEEDS)
    monkeypatch.setattr(run_seconds, "multiplies_bf16", lambda: False)
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
        recipe = f"{RECIPE}tune brecq {{ steps = {steps}; batch = 8 }}\n"
        return forecast_of(plan_recipe(make_project(Path.cwd(), recipe))).seconds

    project()
    one, two, four = seconds(1000), seconds(2000), seconds(4000)
    assert four - two == pytest.approx(2 * (two - one), rel=1e-3)
    assert four > 3 * one > 0


def test_products_are_learned_in_bf16_where_the_processor_or_the_recipe_says_so(
    project, monkeypatch
):
    project()

    def seconds(precision: str, *, fast: bool) -> float:
        monkeypatch.setattr(run_seconds, "multiplies_bf16", lambda: fast)
        recipe = f"{RECIPE}tune brecq {{ steps = 2000; precision = {precision} }}\n"
        return forecast_of(plan_recipe(make_project(Path.cwd(), recipe))).seconds

    wide, narrow = seconds("fp32", fast=True), seconds("bf16", fast=False)
    assert narrow < wide
    assert seconds("auto", fast=True) == narrow
    assert seconds("auto", fast=False) == wide


LOSSES = ("mse", "mse(p=2.4)", "fisher", "perturbation", "kl", "mse + prediction")


def learned(loss: str, *, samples: int = 8, more: str = "") -> Planned:
    """In batches of 8: few of them, so that no peak is that of the walk before the steps."""
    tune = f"tune brecq {{ steps = 100; batch = 8; loss = {loss}{more} }}"
    recipe = RECIPE.replace("samples = 32", f"samples = {samples}")
    return plan_recipe(make_project(Path.cwd(), f"{recipe}{tune}\n"))


def test_what_a_loss_needs_beside_the_block_takes_time_and_memory(project):
    project()
    found = {loss: forecast_of(learned(loss)) for loss in LOSSES}
    peaks = {loss: one.units[1].peak_bytes for loss, one in found.items()}
    block = 8 * 8 * 6 * 6  # values of a batch
    assert found["mse"].units[1].unit == "blocks.0"
    assert peaks["mse(p=2.4)"] == peaks["mse"]
    behind = peaks["kl"] - peaks["mse"] - 4 * 8 * 4  # beside float outputs of the network
    assert behind >= 4 * 4 * block  # another block of four operations
    assert peaks["mse + prediction"] == peaks["kl"]
    assert peaks["fisher"] - peaks["mse"] == behind + 2 * 4 * block
    assert peaks["perturbation"] - peaks["mse"] == behind + 2 * 4 * block // 8
    seconds = {loss: one.units[1].seconds for loss, one in found.items()}
    assert seconds["mse"] < seconds["mse(p=2.4)"] < seconds["fisher"] < seconds["kl"]


def test_the_last_block_has_less_behind_it(project):
    project()
    more = [
        kl.seconds - mse.seconds
        for kl, mse in zip(
            forecast_of(learned("kl")).units, forecast_of(learned("mse")).units, strict=True
        )
    ]
    assert more[1] > more[2] > 0


def test_samples_of_a_tuning_bound_what_its_loss_keeps(project):
    project()
    few = forecast_of(learned("fisher", samples=16, more="; samples = 8"))
    every = forecast_of(learned("fisher", samples=16))
    assert every.units[1].peak_bytes - few.units[1].peak_bytes == 2 * 4 * 8 * 8 * 6 * 6


def test_categorical_variables_have_four_numbers_for_a_weight(project):
    project()
    wide = forecast_of(learned("mse", more="; variable = categorical"))
    assert wide.units[1].peak_bytes - forecast_of(learned("mse")).units[1].peak_bytes == (
        4 * 12 * 3 * 2 * 8 * 8 * 9
    )


def test_a_learning_preset_decides_the_batch_of_a_preview_too(project):
    path = project()
    path.write_text(f"{RECIPE}tune brecq {{ batch = 4 }}\n".lstrip())
    early = plan_recipe(path, preview=True, forecast=True).plan.beside.forecast
    assert early.batch == plan_recipe(path, forecast=True).plan.beside.forecast.batch == 4


@pytest.mark.parametrize("name", ["pt2", "onnx"])
def test_exports_that_a_recipe_asks_for_count_on_disk(project, name):
    asked = project(f'output {{ dir = "a"; format = ["{name}"] }}')
    expected = forecast_of(plan_recipe(asked)).disk_bytes
    done = run_subject(asked, None, RunOptions(work=Path("state")))
    (made,) = done.exports
    without = forecast_of(plan_recipe(project())).disk_bytes
    assert made.bytes == pytest.approx(expected - without, rel=0.5)


def test_a_machine_with_too_little_memory_is_said_with_the_dearest_blocks(project, monkeypatch):
    path = project()
    assert not plan_recipe(path).diagnostics
    monkeypatch.setattr(run_forecast, "memory_bytes", lambda: 1_000_000)
    (warning,) = plan_recipe(path).diagnostics
    assert (warning.code.number, warning.is_error) == ("QR706", False)
    assert warning.message.endswith("this machine has 1 MB")
    assert warning.primary.span.text.startswith("calibrate {")
    assert any("blocks." in note for note in warning.notes)
    assert not plan_recipe(path, preview=True).diagnostics
    (asked,) = plan_recipe(path, preview=True, forecast=True).diagnostics
    assert asked.code.number == "QR706"


def test_memory_of_a_container_counts(tmp_path, monkeypatch):
    machine_has = process_memory.memory_bytes()
    assert machine_has is None or machine_has > 1 << 27
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(process_memory, "CONTAINER_LIMITS", (limit, tmp_path / "absent"))
    limit.write_text("1048576\n")
    assert process_memory.memory_bytes() == 1 << 20
    limit.write_text("max\n")
    assert process_memory.memory_bytes() != 1 << 20


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


def test_factors_take_a_float_pass_over_the_data_and_two_batches_more(project):
    def extra(samples: int) -> float:
        def seconds(*lines):
            path = project(*lines)
            path.write_text(path.read_text().replace("samples = 32", f"samples = {samples}"))
            found = forecast_of(plan_recipe(path)).seconds
            assert found is not None
            return found

        return seconds("prepare equalize") - seconds()

    assert extra(32) / (4 + 2) == pytest.approx(extra(8) / (1 + 2), rel=0.02, abs=1e-3)
    assert extra(32) > 0


def tuned_seconds(tune, samples=32, act="uint8"):
    recipe = f"{RECIPE}{tune}\n".replace("samples = 32", f"samples = {samples}")
    recipe = recipe.replace("act uint8", f"act {act}")
    found = forecast_of(plan_recipe(make_project(Path.cwd(), recipe))).seconds
    assert found is not None
    return found


def test_weighing_rows_takes_time_with_every_batch(project):
    project()

    def extra(samples):
        plain, weighed = "tune hybrid { loss = mse }", "tune hybrid { loss = fisher }"
        return tuned_seconds(weighed, samples) - tuned_seconds(plain, samples)

    assert extra(32) == pytest.approx(4 * extra(8), abs=2e-3)
    assert extra(8) > 0


def test_ranges_for_the_output_are_judged_on_some_of_the_rows(project):
    project()

    def extra(samples, act="uint4"):
        plain = "tune hybrid { learn = [rounding, scale, bias] }"
        return tuned_seconds("tune hybrid", samples, act) - tuned_seconds(plain, samples, act)

    assert 0 < extra(12) < extra(48) < 3 * extra(12)  # of three times as many batches
    assert extra(8, "uint8") == 0  # finer grids keep the range that was observed
