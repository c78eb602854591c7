"""``make bench-stages``: where the layer solver's time goes, against the arithmetic it has to do.

ViT-S/14 at 4 bits with the preset ``hybrid``: for each stage the operations counted from the
shapes, the seconds measured, and their ratio to the time of the same operations at the speed at
which this machine multiplies matrices in the same run. Writes ``build/bench/stages.json`` and
prints a table.
"""

import argparse
import cProfile
import json
import os
import pstats
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import cast

import torch

import qcompile
from qcompile.driver.plan import make_plan
from qcompile.driver.run import execute
from qcompile.driver.run_options import RunOptions
from tests.bench.matrix import RECIPES, ROOT
from tests.bench.variant import variant

OUTPUT = ROOT / "build" / "bench" / "stages.json"
RECIPE = RECIPES / "vit_s14-w4.qrecipe"
TOKENS, DEPTH = 50, 12
LINEAR = ((1152, 384), (384, 384), (1536, 384), (384, 1536))
"""``(outputs, inputs)`` of the four linear layers of a block."""
DAMPINGS, TARGETS, SCALES, TRIAL_ROWS = 3, 2, 5, 128

STAGES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("range search", ("range_search.py:weight_range", "activation_quantizer.py:fit")),
    ("Gram matrices", ("moments.py:moments",)),
    ("factorisation, target", ("layer_solver.py:solved_target", "elimination.py:eliminate")),
    ("OPTQ", ("optq.py:optq",)),
    ("coordinate descent", ("coordinate_descent.py:coordinate_descent",)),
    ("scale refit", ("scale_refit.py:refit_scale",)),
    ("two streams", ("sweep_node.py:__call__",)),
)
"""Names of functions whose cumulative time is a stage's; none calls another of them."""


@dataclass(frozen=True, slots=True)
class Stage:
    name: str
    seconds: float
    giga_operations: float | None
    over_floor: float | None
    """Seconds over those of the operations alone; ``None`` where they are not counted."""

    @property
    def line(self) -> str:
        counted = "-" if self.giga_operations is None else f"{self.giga_operations:,.0f}"
        ratio = "-" if self.over_floor is None else f"{self.over_floor:.1f}"
        return f"| {self.name} | {self.seconds:.1f} | {counted} | {ratio} |"


def operations(images: int) -> dict[str, float]:
    """Multiplications and additions of all blocks, in units of 1e9."""
    samples = images * TOKENS
    work = {"Gram matrices": 0.0, "factorisation, target": 0.0, "OPTQ": 0.0, "two streams": 0.0}
    for rows, k in LINEAR:
        work["Gram matrices"] += 2 * samples * k * (k / 2 + (k if rows >= 2 * k else rows))
        solved = rows + DAMPINGS * min(rows, TRIAL_ROWS)
        work["factorisation, target"] += DAMPINGS * 2 / 3 * k**3 + 4 * solved * k**2
        work["OPTQ"] += k**2 * (SCALES * rows + TARGETS * DAMPINGS * min(rows, TRIAL_ROWS))
        # the float stream, the quantized one, and the layer's wanted output
        work["two streams"] += 2 * 2 * samples * k * rows
    return {name: DEPTH * count / 1e9 for name, count in work.items()}


def machine_speed(size: int = 2048) -> float:
    """1e9 operations a second of a float32 product of square matrices; best of 20."""
    left, right = torch.rand(size, size), torch.rand(size, size)
    best = min(_timed(lambda: left @ right) for _ in range(20))
    return 2 * size**3 / best / 1e9


def _timed(work: Callable[[], object]) -> float:
    before = time.perf_counter()
    work()
    return time.perf_counter() - before


def stages(profile: cProfile.Profile, speed: float, images: int) -> list[Stage]:
    counted = operations(images)
    spent: dict[str, float] = {}
    # pstats keeps, by (file, line, name): calls, primitive calls, own time, cumulative time
    entries = cast("dict[tuple[str, int, str], tuple[int, int, float, float]]", _entries(profile))
    for (file, _, function), entry in entries.items():
        name = f"{Path(file).name}:{function}"
        spent[name] = spent.get(name, 0.0) + entry[3]
    found: list[Stage] = []
    for name, functions in STAGES:
        seconds = sum(spent.get(function, 0.0) for function in functions)
        work = counted.get(name)
        found.append(Stage(name, seconds, work, seconds * speed / work if work else None))
    return found


def _entries(profile: cProfile.Profile) -> object:
    return pstats.Stats(profile).stats  # pyright: ignore[reportAttributeAccessIssue]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    threads = parser.parse_args().threads
    torch.set_num_threads(threads)
    recipe = variant(RECIPE, "hybrid", 1).recipe()
    images = recipe.calibration.samples if recipe.calibration else 0
    planned = make_plan(qcompile.bind(recipe))
    speed = machine_speed()
    output = OUTPUT.parent / "artifacts" / "stages"
    profile = cProfile.Profile()
    run = partial(execute, planned, output, RunOptions(replace=True, fresh=True))
    total = _timed(lambda: profile.runcall(run))
    plain = _timed(run)
    speed = max(speed, machine_speed())  # a neighbour may have had the machine for a moment
    found = stages(profile, speed, images)
    rest = total - sum(stage.seconds for stage in found)
    found.append(Stage("the rest", rest, None, None))
    for name, seconds in (("in all", total), ("in all, without the profile", plain)):
        work = sum(operations(images).values())
        found.append(Stage(name, seconds, work, seconds * speed / work))
    document = {
        "threads": threads,
        "torch": torch.__version__,
        "images": images,
        "giga_operations_a_second": speed,
        "stages": [asdict(stage) for stage in found],
    }
    OUTPUT.write_text(json.dumps(document, indent=1) + "\n")
    print(f"{images} images, {threads} threads, {speed:.0f}e9 operations a second")
    print("| stage | seconds | 1e9 operations | over the floor |\n|---|--:|--:|--:|")
    print("\n".join(stage.line for stage in found))


if __name__ == "__main__":
    main()
