"""`partition`: what is learned as one changes what is learned, what is saved, and the forecast."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from qcompile.driver.load import verify
from qcompile.driver.plan import plan_recipe
from qcompile.driver.progress import StopRequestedError
from qcompile.driver.run import run_subject
from qcompile.driver.run_forecast import run_forecast
from qcompile.driver.run_options import RunOptions
from tests.driver.project import RECIPE, make_project

QUIET = RunOptions(work=Path("state"))
NAMES = {
    "layer": ["conv", "blocks.0.conv1", "blocks.0.conv2", "blocks.1.conv1", "blocks.1.conv2"],
    "block": ["conv", "blocks.0", "blocks.1"],
    "stage": ["conv", "blocks.0..blocks.1"],
    "network": ["conv..head"],
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def made(partition, more="", steps=30):
        tune = f"tune brecq {{ partition = {partition}; steps = {steps}; batch = 8; {more} }}\n"
        return make_project(tmp_path, RECIPE.replace("int4", "int2") + tune)

    return made


def accounts(folder):
    report = json.loads((Path(folder) / "report.json").read_text())
    return {one["of"]: one for unit in report["units"] for one in unit["reconstructions"]}


def test_each_partition_learns_what_it_says_and_ends_elsewhere(project):
    codes = {}
    for partition, names in NAMES.items():
        run_subject(project(partition), Path(partition), QUIET)
        found = accounts(partition)
        assert [*found] == names
        assert "learned" in {one["kept"] for one in found.values()}
        assert verify(partition) == []
        codes[partition] = load_file(f"{partition}/model.safetensors")[
            "blocks.0.conv2.weight:codes"
        ]
    assert len({tuple(one.flatten().tolist()) for one in codes.values()}) == len(NAMES)


def test_the_network_may_be_learned_by_its_decision(project):
    """Behind all of it there is nothing left to run in float."""
    run_subject(project("network", "loss = kl"), Path("out"), QUIET)
    (found,) = accounts("out").values()
    assert found["kept"] == "learned"
    assert found["held_out_loss"]["learned"] < 0.8 * found["held_out_loss"]["nearest"]


def test_a_run_that_was_stopped_between_stages_goes_on_to_the_same_bytes(project):
    path = project("stage", steps=6)
    run_subject(path, Path("whole"), QUIET)
    seen = []

    def stop_late():
        seen.append(0)
        return len(seen) > 9

    options = RunOptions(work=Path("other"), should_stop=stop_late)
    with pytest.raises(StopRequestedError):
        run_subject(path, Path("parts"), options)
    run_subject(path, Path("parts"), RunOptions(work=Path("other")))
    whole, parts = (load_file(f"{name}/model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_the_forecast_counts_what_is_learned_as_one(project):
    """With a single batch; with many it is the cached streams that take the memory."""
    peaks = []
    for partition in NAMES:
        path = project(partition)
        path.write_text(path.read_text().replace("samples = 32", "samples = 8"))
        made = plan_recipe(path)
        found = run_forecast(made.bound, made.calibration, None)
        assert [one.unit for one in found.units] == [one.name for one in made.plan.core.units]
        peaks.append(max(one.peak_bytes for one in found.units))
    layer, block, stage, network = peaks
    assert layer < block < min(stage, network)


def test_blocks_are_counted_as_the_model_has_them(project):
    """`block(k..n)` of a selector does not depend on what is learned together."""
    path = project("network")
    path.write_text(path.read_text() + "tune rtn for block(1..1)\n")
    core = plan_recipe(path).plan.core
    assert [one.sites for one in core.tunes] == [("blocks.1.conv1", "blocks.1.conv2")]
    assert [unit.name for unit in core.units] == ["conv..blocks.0", "blocks.1", "head"]
