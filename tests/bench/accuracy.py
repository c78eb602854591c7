"""``make bench-accuracy`` and ``make bench-engine``: what each preset keeps of a model, and when.

Writes ``build/bench/accuracy.json`` or ``engine.json`` and prints a table. Finished cells are kept,
and a run that the time limit cuts off goes on from its last block: call it again to continue. This
process loads no torch: a child's peak memory would start from its parent's.
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

from tests.bench import seed_means
from tests.bench.accuracy_table import Measured, as_json, as_markdown
from tests.bench.cells import Budget, Document, Store, code_of_process, key
from tests.bench.child import answer
from tests.bench.matrix import MATRICES, ROOT, HardModel, Row, rows
from tests.bench.request import FloatRequest, QuantizedRequest, Request
from tests.bench.step_cost import EQUAL, REFERENCE, TIMED_STEPS, StepCost
from tests.bench.variant import Variant, preset_name, variant

BUILD = ROOT / "build" / "bench"
MINUTES = 60
FULL_SEEDS = 3

BENCH_SOURCES = (
    "tests/bench/efficientnet_lite0.py",
    "tests/bench/vit_s14.py",
    "tests/bench/vit_s14_weights.py",
    "tests/bench/hard_models.py",
    "tests/bench/fashion.py",
    "tests/bench/photos.py",
    "tests/bench/photo_files.py",
    "tests/bench/crops.py",
    "tests/bench/last_block.py",
    "tests/bench/step_cost.py",
    "tests/bench/run_cell.py",
)
COMPILER_SOURCES = (
    *("qcompile/analysis", "qcompile/capture", "qcompile/compat", "qcompile/data"),
    *("qcompile/emit", "qcompile/passes", "qcompile/quant"),
    *("qcompile/driver/candidates.py", "qcompile/driver/choose.py"),
    "qcompile/policy/choice_limits.py",
)
"""What decides a result besides the recipe's meaning, which is in the cell itself."""


@dataclass(frozen=True, slots=True)
class Bench:
    store: Store
    budget: Budget
    threads: int

    def float_result(self, model: HardModel) -> Document | None:
        """``None`` when the time is up, or when it failed."""
        cell = {
            "kind": "float",
            "model": model.factory,
            "data": model.data_name(),
            "images": model.test_images,
            "code": code_of_process(ROOT, BENCH_SOURCES),
        }
        request = FloatRequest(
            factory=model.factory,
            test_data=model.test_data,
            test_images=model.test_images,
            plain_images=model.plain_images,
            threads=self.threads,
        )
        return self.result(cell, request, f"{model.name} float")

    def quantized_result(self, row: Row, of_float: Document) -> Document | None:
        if not row.preset.endswith(f"@{EQUAL}"):
            return self._quantized(row, of_float)
        name = preset_name(row.preset)
        reference = self.quantized_result(replace(row, preset=REFERENCE), of_float)
        timed = self._quantized(replace(row, preset=f"{name}@{TIMED_STEPS}"), of_float, time=True)
        if reference is None or timed is None:
            return None
        allowed = processor_seconds(reference)
        steps = step_cost(timed).steps_in(allowed)
        found = self._quantized(replace(row, preset=f"{name}@{steps}"), of_float)
        return None if found is None else {**found, "allowed_cpu_seconds": allowed}

    def _quantized(self, row: Row, of_float: Document, *, time: bool = False) -> Document | None:
        made = variant(row.recipe, row.preset, row.seed)
        cell = _cell(row, made)
        request = QuantizedRequest(
            recipe=str(row.recipe),
            text=made.text,
            test_data=row.model.test_data,
            test_images=row.model.test_images,
            plain_images=row.model.plain_images,
            threads=self.threads,
            output=str(BUILD / "artifacts" / f"{row.recipe.stem}-{row.preset}-{row.seed}"),
            float_logits=cast("str", of_float["logits"]),
            is_timing=time,
        )
        if time:
            cell, label = {**cell, "kind": "timing", "threads": self.threads}, f"{row.label}, time"
            return self.result(cell, request, label)
        found = self.result(cell, request, row.label)
        return None if found is None else {**found, "steps": made.recipe().tuning.steps}

    def result(self, cell: Document, request: Request, label: str) -> Document | None:
        found = self.store.find(cell)
        if found is not None or self.budget.is_spent:
            return found
        spent = self.store.folder / f"{key(cell)}.spent"
        before = Spent.of(spent)
        now, cpu = time.monotonic(), _children_cpu()
        try:
            result = answer("run_cell", request.model_dump(), limit=self.budget.left)
        except subprocess.TimeoutExpired:
            self.store.folder.mkdir(parents=True, exist_ok=True)
            wall, cpu = time.monotonic() - now, _children_cpu() - cpu
            before.plus(wall, cpu).keep(spent)
            return None
        except subprocess.CalledProcessError:  # its traceback is on standard error
            print(f"{label}: failed", file=sys.stderr)
            return None
        seconds = before.wall + time.monotonic() - now
        result = {
            **result,
            "seconds_before": round(before.wall, 1),
            "cpu_seconds_before": round(before.cpu, 1),
        }
        self.store.save(cell, result)
        spent.unlink(missing_ok=True)
        shown = f"{result['top1']:.2%} " if "top1" in result else ""
        print(f"{label}: {shown}in {seconds:.0f} s", file=sys.stderr)
        return result


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds that went into a cell before the time was up."""

    wall: float
    cpu: float

    @classmethod
    def of(cls, file: Path) -> "Spent":
        wall, cpu = json.loads(file.read_text()) if file.exists() else (0.0, 0.0)
        return cls(wall, cpu)

    def plus(self, wall: float, cpu: float) -> "Spent":
        return Spent(self.wall + wall, self.cpu + cpu)

    def keep(self, file: Path) -> None:
        file.write_text(json.dumps([self.wall, self.cpu]))


def _children_cpu() -> float:
    """Processor seconds of all processes that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def processor_seconds(result: Document) -> float:
    """Of the run alone: its data and its plan are there; what was cut off counts whole."""
    phases = cast("dict[str, dict[str, float]]", result["phases"])
    return phases["run"]["cpu"] + cast("float", result["cpu_seconds_before"])


def step_cost(timed: Document) -> StepCost:
    """From a run of ``TIMED_STEPS``, which was not cut off."""
    step = cast("float", timed["seconds_a_step"])
    phases = cast("dict[str, dict[str, float]]", timed["phases"])
    return StepCost(phases["run"]["cpu"] - TIMED_STEPS * step, step)


def _cell(row: Row, made: Variant) -> Document:
    recipe = made.recipe()
    return {
        "kind": "quantized",
        "model": row.model.factory,
        "data": row.model.data_name(),
        "images": row.model.test_images,
        "recipe": made.text,
        "tuning": asdict(recipe.tuning),
        "schemes": {name: asdict(s) for name, s in recipe.schemes.items()},
        "code": code_of_process(ROOT, (*BENCH_SOURCES, *COMPILER_SOURCES)),
    }


def measured(bench: Bench, wanted: list[Row]) -> Iterator[Measured]:
    of_float: dict[str, Document | None] = {}
    for row in wanted:
        if row.model.name not in of_float:
            of_float[row.model.name] = bench.float_result(row.model)
        reference = of_float[row.model.name]
        result = None if reference is None else bench.quantized_result(row, reference)
        yield Measured(row, row.model.data_name(), reference, result)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--matrix", choices=[one.name for one in MATRICES], default="accuracy")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="time limit of this call")
    parser.add_argument("--full", action="store_true", help="no time limit, three seeds")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", default="", help="rows whose label matches this pattern")
    given = parser.parse_args()
    budget = Budget(None if given.full else given.minutes * 60)
    bench = Bench(Store(BUILD / "cells"), budget, given.threads)
    matrix = next(one for one in MATRICES if one.name == given.matrix)
    seeds = FULL_SEEDS if given.full else given.seeds
    wanted = [row for row in rows(matrix, seeds) if re.search(given.only, row.label)]
    found = list(measured(bench, wanted))
    document = as_json(found)
    entries = cast("list[Document]", document["rows"])
    document = {**document, "means": seed_means.means(entries)}
    Path(BUILD / f"{matrix.name}.json").write_text(json.dumps(document, indent=1) + "\n")
    print(as_markdown(found))
    print(f"\n{seed_means.as_markdown(entries)}")


if __name__ == "__main__":
    main()
