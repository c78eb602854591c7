"""The terms of a run's memory: streams, statistics of a layer, and steps."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from qcompile.analysis.run_memory import SCATTERED, SUMMED
from qcompile.cli.main import main
from qcompile.diagnostics.quantities import human_bytes
from qcompile.driver.plan import plan_recipe
from qcompile.driver.run_forecast import run_forecast
from qcompile.methods.presets import preset
from qcompile.quant.layer_solver import AT_ONCE, tried_at_once
from tests.driver.project import RECIPE, make_project

FEW = RECIPE.replace("samples = 32", "samples = 8").replace("batch = 16", "batch = 8")
"""So that no peak is that of the streams alone."""
GENIE = "genie { steps = 100; batch = 8 }"
BOTH = "hybrid { solver = [optq, cd, gradient]; partition = block; steps = 100; batch = 8 }"


@pytest.fixture
def units(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def forecast(tune):
        planned = plan_recipe(make_project(tmp_path, f"{FEW}tune {tune}\n"))
        return run_forecast(planned.bound, planned.calibration, None).units

    return forecast


@pytest.mark.parametrize("tune", ["rtn", "rtn_gram", "optq", "hybrid", "brecq", GENIE, BOTH])
def test_terms_are_those_of_what_the_tuning_does(units, tune):
    found = units(tune)
    for unit in found:
        terms = (unit.streams_bytes, unit.statistics_bytes, unit.learning_bytes)
        assert all(0 <= term <= unit.peak_bytes for term in terms)
    solves = tune in ("rtn_gram", "optq", "hybrid", BOTH)
    learns = tune in ("brecq", GENIE, BOTH)
    assert any(unit.statistics_bytes for unit in found) == solves
    assert any(unit.learning_bytes for unit in found) == learns


def test_streams_are_the_values_that_are_held_in_both(units):
    """8 samples of 8 channels on 6 x 6; the block's input waits for the sum behind it."""
    value = 4 * 8 * 8 * 36
    nearest, fitted = units("rtn")[1], units("optq")[1]
    assert nearest.unit == "blocks.0"
    assert nearest.streams_bytes == 2 * value + 2 * value  # it, and what the second layer reads
    assert fitted.streams_bytes == nearest.streams_bytes + value  # and wanted outputs


def test_statistics_are_of_the_widest_layer(units):
    """3 x 3 convolutions of 8 channels on 6 x 6: 8 rows of 72 columns."""
    block = units("optq")[1]
    assert block.unit == "blocks.0"
    positions = 8 * 36
    outputs, patches = 2 * positions * 8, positions * (1.25 * 72 + 2 * 8)
    summed = 4 * (outputs + patches) + 8 * 2 * (72 * 72 + 8 * 72)
    eliminated = 8 * (6 * 72 * 72 + 8 * 8 * 72)
    quantizing = 4 * 8 * positions
    expected = SUMMED * summed + SCATTERED * eliminated + quantizing
    assert block.statistics_bytes == pytest.approx(expected, abs=1)


def test_each_damping_that_is_tried_has_a_factor(units):
    """`hybrid` tries three at once: factors and their copies in single precision take most."""
    hybrid = preset("hybrid")
    assert hybrid is not None
    assert hybrid.damping == (0.01, 0.1, 1.0)
    one, three = (units(name)[1].statistics_bytes for name in ("optq", "hybrid"))
    gram = 8 * 72 * 72
    assert three - one == pytest.approx(SCATTERED * (3 + 3 * 2 - 6) * gram, abs=1)


@pytest.mark.parametrize(
    ("dampings", "gram_bytes", "expected"),
    [
        (3, 8 * 72 * 72, 3),
        (3, AT_ONCE // 2, 2),
        (3, AT_ONCE, 1),
        (1, 1, 1),
        (3, 2 * AT_ONCE, 1),
        (3, 0, 3),
    ],
)
def test_few_wide_factors_are_tried_at_once(dampings, gram_bytes, expected):
    assert tried_at_once(dampings, gram_bytes) == expected


def test_what_a_loss_needs_is_a_part_of_the_learning(units):
    plain, network = (units(f"brecq {{ batch = 8; loss = {loss} }}")[1] for loss in ("mse", "kl"))
    assert network.streams_bytes == plain.streams_bytes
    assert network.learning_bytes - plain.learning_bytes == network.peak_bytes - plain.peak_bytes
    assert network.learning_bytes > plain.learning_bytes > 0


def test_the_plan_prints_the_terms_of_the_largest_unit(units):
    recipe = Path("recipe.qrecipe")
    found = max(units(BOTH), key=lambda unit: unit.peak_bytes)
    recipe = next(Path.cwd().glob("*.qrecipe"))
    shown = CliRunner().invoke(main, ["plan", str(recipe), "--forecast"])
    assert shown.exit_code == 0, shown.output
    line = next(line for line in shown.stdout.splitlines() if "the memory, in" in line)
    assert f"the memory, in `{found.unit}`: " in line
    assert line.endswith(f"{human_bytes(found.learning_bytes)} steps")
    assert f"{human_bytes(found.streams_bytes)} both streams" in line
    document = json.loads(
        CliRunner().invoke(main, ["plan", str(recipe), "--forecast", "--json"]).stdout
    )
    row = document["plan"]["beside"]["forecast"]["units"][1]
    assert {"statistics_bytes", "learning_bytes"} <= set(row)


def test_thousands_of_megabytes_are_gigabytes():
    assert human_bytes(20_800_000_000) == "20.8 GB"
    assert human_bytes(999_400_000) == "999 MB"
    assert human_bytes(999_600_000) == "1 GB"
