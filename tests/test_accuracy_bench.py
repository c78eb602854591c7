"""The parts of the accuracy benchmark that need neither its models nor its data."""

import json
from dataclasses import dataclass, field

import pytest
import torch

import qcompile
from qcompile.capture.blocks import find_units
from qcompile.capture.trace import trace
from qcompile.driver.plan import make_plan
from qcompile.driver.progress import Progress
from qcompile.driver.run import execute
from qcompile.driver.run_options import RunOptions
from qcompile.zoo import fashion_mnist
from tests.bench import photo_files, seed_means
from tests.bench.accuracy import Bench, Spent, processor_seconds, step_cost
from tests.bench.accuracy_table import Measured, as_json, as_markdown
from tests.bench.cells import Budget, Store, code_version
from tests.bench.crops import Crop
from tests.bench.efficientnet_lite0 import STAGES, EfficientNetLite0
from tests.bench.last_block import block_error, last_block
from tests.bench.matrix import (
    ACCURACY,
    BASELINE,
    ENGINE,
    HARD_MODELS,
    MATRICES,
    PHOTOS,
    ROOT,
    Row,
    rows,
)
from tests.bench.step_cost import TIMED_STEPS, StepClock, StepCost
from tests.bench.variant import FLIPPED, GRADIENT, SYMMETRIC, preset_name, variant
from tests.bench.vit_s14 import DEPTH, ViTS14

CELL = {"model": "m", "seed": 1}
OF_FLOAT = {"top1": 0.9, "plain_top1": 0.9, "logits": ""}
RESULT = {
    "top1": 0.5,
    "plain_top1": 0.5,
    "agreement": 0.6,
    "kl": 0.1,
    "rel_error": 0.2,
    "logit_error": 0.3,
    "steps": 0,
    "seconds_a_step": None,
    "stretches": [],
    "images": 2000,
    "bytes_float": 8_000_000,
    "bytes": 1_000_000,
    "peak_rss_mb": 700.0,
    "threads": 1,
    "seconds_before": 0.0,
    "cpu_seconds_before": 0.0,
    "phases": {name: {"wall": 1.0, "cpu": 2.0} for name in ("capture", "plan", "run", "evaluate")},
}
ASKED = {
    *("model", "scheme", "preset", "seed", "steps", "seconds"),
    *("rel_error", "accuracy", "agreement", "kl", "peak_rss_mb"),
}
"""Fields of ``engine.json`` that comparisons of presets read."""


def blocks_of(model, side):
    captured = trace(model.eval(), (torch.zeros(2, 3, side, side),), {})
    assert captured.diagnostics == ()
    units, diagnostics = find_units(captured.module)
    assert diagnostics == []
    return [unit.name for unit in units if unit.is_block]


def test_a_stored_cell_is_found_by_its_content(tmp_path):
    store = Store(tmp_path / "cells")
    assert store.find(CELL) is None
    store.save(CELL, {"top1": 0.5})
    assert store.find(dict(reversed(CELL.items()))) == {"top1": 0.5}
    assert store.find({**CELL, "seed": 2}) is None


def test_code_version_changes_with_code_and_not_with_comments(tmp_path):
    file = tmp_path / "a" / "b.py"
    file.parent.mkdir()
    file.write_text("x = 1\n")
    before = code_version(tmp_path, ["a"])
    file.write_text("# a word\nx  =  1\n")
    assert code_version(tmp_path, ["a"]) == before
    file.write_text("x = 2\n")
    assert code_version(tmp_path, ["a"]) != before


def test_budget_is_spent_after_its_time_and_never_without_a_limit():
    assert Budget(0.0).is_spent
    assert not Budget(60.0).is_spent
    assert not Budget(None).is_spent


ROWS = [row for matrix in MATRICES for row in rows(matrix, seeds=2)]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.label)
def test_every_row_is_its_recipe_with_preset_and_seed(row):
    preset = row.preset.replace("@equal", "@7")
    recipe = variant(row.recipe, preset, row.seed).recipe()
    name, _, steps = preset.partition("@")
    assert recipe.tuning.preset == preset_name(preset)
    assert ("gradient" in recipe.tuning.solvers) == recipe.tuning.learns
    assert (name == GRADIENT) <= (recipe.tuning.solvers == ("optq", "cd", "gradient"))
    assert (name == SYMMETRIC) <= (recipe.tuning.target == "symmetric")
    assert (name == FLIPPED) == (recipe.calibration.flip == "horizontal")
    assert not steps or recipe.tuning.steps == int(steps)
    assert not row.preset.endswith("@equal") or recipe.tuning.learns
    assert recipe.calibration.seed == row.seed
    assert recipe.source.name == str(row.recipe)


def test_rows_start_with_the_baselines_of_the_first_seed():
    found = list(rows(ACCURACY, seeds=2))
    baselines = [row for row in found if row.preset == BASELINE and row.seed == 1]
    assert found[: len(baselines)] == baselines
    assert len(baselines) == 10
    assert len(set(found)) == len(found)


def test_a_row_that_was_not_reached_is_listed_as_missing():
    done = Measured(Row(HARD_MODELS[0], "w4", BASELINE, 1), "data", OF_FLOAT, RESULT)
    missing = Measured(Row(HARD_MODELS[1], "w4", BASELINE, 1), "data", OF_FLOAT, None)
    document = as_json([done, missing])
    assert document["missing"] == [missing.row.label]
    (entry,) = document["rows"]
    assert (entry["float"], entry["rtn"], entry["accuracy"]) == (0.9, 0.5, 0.5)
    assert (entry["seconds"], entry["cpu_seconds"]) == (3.0, 6.0)
    assert set(entry) >= ASKED
    table = as_markdown([done, missing])
    assert (
        "| 90.00 | 50.00 | 50.00 | 60.00 | 0.1000 | 0.2000 | 8.0 -> 1.00 MB | 3 | 6 | 700 |"
        in table
    )
    assert missing.row.label in table
    json.dumps(document)


def test_means_over_seeds_put_the_least_divergence_first():
    row = {"model": "m", "scheme": "w4", "rel_error": 0.1, "cpu_seconds": 7.0, "agreement": 0.9}
    row |= {"stretches": []}
    rows_ = [
        {**row, "preset": preset, "seed": seed, "kl": kl, "accuracy": 0.8 + seed / 100}
        for preset, kls in {"optq": (0.3, 0.5), "hybrid": (0.2, 0.4)}.items()
        for seed, kl in enumerate(kls, start=1)
    ]
    first, second = seed_means.means(rows_)
    assert (first["preset"], second["preset"]) == ("hybrid", "optq")
    assert first["seeds"] == [1, 2]
    assert (first["kl"], first["stdev_kl"]) == pytest.approx((0.3, 0.02**0.5))
    assert seed_means.means(rows_[:1])[0]["stdev_kl"] == 0
    table = seed_means.as_markdown(rows_)
    assert (
        "| m | w4 | hybrid | 2 | **0.3000** | 0.1414 | 81.50 | 0.71 | 90.00 | 0.1000 | 7 | - |"
        in table
    )
    assert "| optq | 2 | 0.4000 |" in table


def test_means_tell_how_often_what_was_learned_was_kept_and_what_it_did():
    learned = {"of": "a", "kept": "learned", "nearest": 0.9, "start": 0.5, "learned": 0.4}
    refused = {**learned, "of": "b", "kept": "start", "learned": None}
    row = {"model": "m", "scheme": "w4", "preset": "p", "rel_error": 0.1, "cpu_seconds": 7.0}
    row |= {"agreement": 0.9, "seed": 1, "kl": 0.1, "accuracy": 0.8}
    row |= {"stretches": [learned, refused]}
    assert "| 1 of 2, -10.0% |" in seed_means.as_markdown([row])


def test_blocks_of_efficientnet_are_its_bottlenecks():
    count = sum(stage.repeats for stage in STAGES)
    assert blocks_of(EfficientNetLite0(10), 112) == [f"blocks.{i}" for i in range(count)]


def test_blocks_of_the_vit_are_its_transformer_blocks():
    assert blocks_of(ViTS14(98, 10), 98) == [f"blocks.{i}" for i in range(DEPTH)]


@dataclass(frozen=True)
class Answered(Bench):
    """A bench whose cells are answered here: what was asked is kept."""

    asked: list[tuple[str, bool]] = field(default_factory=list)

    def result(self, cell, request, label):
        self.asked.append((label, request.is_timing))
        if request.is_timing:
            return {**RESULT, "seconds_a_step": 0.25, "phases": {"run": {"wall": 9.0, "cpu": 8.0}}}
        return {**RESULT, "phases": {"run": {"wall": 9.0, "cpu": 30.0}}}


def test_a_preset_at_equal_time_takes_the_steps_that_the_reference_leaves_it(tmp_path):
    bench = Answered(Store(tmp_path), Budget(None), threads=1)
    row = next(one for one in rows(ENGINE, 1) if one.preset == "qdrop@equal")
    found = bench.quantized_result(row, OF_FLOAT)
    # 8 s of 20 steps are 3 s of everything else and 5 s of steps
    assert found["steps"] == int((30.0 - 3.0) / 0.25)
    assert found["allowed_cpu_seconds"] == 30.0
    names = [label.removeprefix(f"{row.model.name} {row.bits} ") for label, _ in bench.asked]
    assert names == ["hybrid seed 1", "qdrop@20 seed 1, time", "qdrop@108 seed 1"]
    assert [is_timing for _, is_timing in bench.asked] == [False, True, False]


def test_a_preset_takes_a_step_even_where_the_time_is_up_before():
    assert StepCost(fixed=5.0, step=0.1).steps_in(4.0) == 1
    assert StepCost(fixed=5.0, step=0.1).steps_in(6.05) == 10


def test_time_that_was_cut_off_counts():
    result = {**RESULT, "cpu_seconds_before": 5.0}
    assert processor_seconds(result) == 7.0
    cost = step_cost({**RESULT, "seconds_a_step": 0.05})
    assert cost == StepCost(2.0 - TIMED_STEPS * 0.05, 0.05)


def test_spent_time_adds_up_over_calls(tmp_path):
    file = tmp_path / "cell.spent"
    assert Spent.of(file) == Spent(0.0, 0.0)
    Spent.of(file).plus(3.0, 2.0).keep(file)
    Spent.of(file).plus(1.0, 0.5).keep(file)
    assert Spent.of(file) == Spent(4.0, 2.5)


def test_the_clock_of_steps_leaves_out_what_lies_between_stretches():
    ticks = iter([10.0, 11.0, 50.0, 52.0, 90.0])
    clock = StepClock(now=lambda: next(ticks))
    seen = [("a", 1), ("a", None), ("a", 3), ("b", 1), ("b", 2), ("c", 1)]
    for unit, step in seen:
        clock(Progress(unit, unit, 0, 1, 0.0, None, step, None if step is None else 0.5))
    assert clock.seconds_a_step == 1.0 / 2 + 2.0


CENTRE = Crop(3, 20, "test", first_is_centre=True)


def test_the_first_round_of_test_crops_is_the_usual_one():
    assert CENTRE.box(640, 512) == (96.0, 32.0, 544.0, 480.0)
    assert not CENTRE.is_mirrored


@pytest.mark.parametrize("number", range(0, 300, 7))
def test_a_crop_is_a_square_inside_its_photograph(number):
    crop = Crop(number, 23, "calibration", first_is_centre=False)
    left, upper, right, lower = crop.box(500, 375)
    assert 0 <= left < right <= 500
    assert 0 <= upper < lower <= 375
    assert right - left == pytest.approx(lower - upper)
    assert 0.4 * 375 <= right - left <= 375
    assert crop.photo == number % 23
    assert crop == Crop(number, 23, "calibration", first_is_centre=False)
    assert crop.box(500, 375) != Crop(number, 23, "test", first_is_centre=False).box(500, 375)


def test_calibration_never_sees_a_photograph_of_the_test():
    places = {str(place) for place, _ in photo_files.CALIBRATION}
    assert photo_files.TEST_PACKAGE not in places
    assert sum(len(names) for _, names in photo_files.CALIBRATION) == 23
    assert {row.bits for row in rows(ENGINE, 1) if row.model == PHOTOS} == {"w4", "w4a8", "w4a4"}


def test_the_error_of_the_last_block_is_that_of_the_stored_model(tmp_path):
    bound = qcompile.bind(variant(ROOT / "recipes" / "resnet20-w3a3.qrecipe", "rtn", 1).recipe())
    planned = make_plan(bound)
    execute(planned, tmp_path / "artifact", RunOptions(work=tmp_path / "runs"))
    quantized = qcompile.load(tmp_path / "artifact")
    node = last_block(bound.units)
    assert node == "layers_8_relu2"
    images = fashion_mnist.test()[0][:40]
    apart = block_error(bound.graph, quantized, node, images.split(20))
    assert apart == pytest.approx(block_error(bound.graph, quantized, node, [images]), rel=1e-4)
    assert 0.05 < apart < 1
    assert block_error(bound.graph, bound.graph, node, [images]) == 0
