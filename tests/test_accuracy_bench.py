"""The parts of the accuracy benchmark that need neither its models nor its data."""

import json

import pytest
import torch

from qcompile.capture.blocks import find_units
from qcompile.capture.trace import trace
from tests.bench.accuracy_table import Measured, as_json, as_markdown
from tests.bench.cells import Budget, Store, code_version
from tests.bench.efficientnet_lite0 import STAGES, EfficientNetLite0
from tests.bench.matrix import ACCURACY, BASELINE, HARD_MODELS, MATRICES, Row, rows
from tests.bench.variant import variant
from tests.bench.vit_s14 import DEPTH, ViTS14

CELL = {"model": "m", "seed": 1}
OF_FLOAT = {"top1": 0.9}
RESULT = {
    "top1": 0.5,
    "agreement": 0.6,
    "kl": 0.1,
    "rel_error": 0.2,
    "images": 2000,
    "bytes_float": 8_000_000,
    "bytes": 1_000_000,
    "peak_rss_mb": 700.0,
    "threads": 1,
    "seconds_before": 0.0,
    "phases": {name: {"wall": 1.0, "cpu": 1.0} for name in ("capture", "plan", "run", "evaluate")},
}


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
    recipe = variant(row.recipe, row.preset, row.seed).recipe()
    name, _, steps = row.preset.partition("@")
    assert recipe.tuning.preset == name
    assert not steps or recipe.tuning.steps == int(steps)
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
    assert (entry["float"], entry["rtn"], entry["result"], entry["seconds"]) == (0.9, 0.5, 0.5, 3.0)
    table = as_markdown([done, missing])
    assert "| 90.00 | 50.00 | 50.00 | 60.00 | 0.1000 | 0.2000 | 8.0 -> 1.00 MB | 3 | 700 |" in table
    assert missing.row.label in table
    json.dumps(document)


def test_blocks_of_efficientnet_are_its_bottlenecks():
    count = sum(stage.repeats for stage in STAGES)
    assert blocks_of(EfficientNetLite0(10), 112) == [f"blocks.{i}" for i in range(count)]


def test_blocks_of_the_vit_are_its_transformer_blocks():
    assert blocks_of(ViTS14(98, 10), 98) == [f"blocks.{i}" for i in range(DEPTH)]
