"""``make bench-memory``: what streams, statistics and learning hold, beside the forecast.

Runs of each model with layer solvers and gradient: what a process holds differs between equal
runs by the holes that freed values leave, so the median of several stands for them. Each term is
shown for the unit whose forecast of it is the largest, and the peak for the unit that needs most.
Writes ``build/bench/memory.json`` and prints a table. Finished runs are kept, so that a second
call continues. Loads no torch.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import cast

from tests.bench.cells import Document, Store, code_version
from tests.bench.child import answer

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "bench"
RECIPES = ("efficientnet_lite0-w4", "vit_s14-w4", "resnet20-w4a8", "vit_small-w4a8")
TUNE = (
    "hybrid { solver = [optq, cd, gradient]; partition = block; "
    "learn = [rounding, scale, bias]; steps = 5 }"
)
"""Memory is that of the first steps."""
TERMS = ("streams", "statistics", "learning", "peak")
RUNS = 3
SOURCES = ("qcompile", "tests/bench/memory_cell.py", "tests/bench/hard_models.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="recipes whose name contains this text")
    only: str = parser.parse_args().only
    store = Store(BUILD / "memory-cells")
    version = code_version(ROOT, SOURCES)
    found: dict[str, list[Document]] = {}
    print("| recipe | term | unit | MB | least, most | forecast | |\n|---|---|---|--:|--:|--:|--:|")
    for recipe in RECIPES:
        if only in recipe:
            found[recipe] = [_run(store, recipe, version, number) for number in range(RUNS)]
            print("\n".join(lines(recipe, found[recipe])), flush=True)
    (BUILD / "memory.json").write_text(json.dumps(found, indent=1) + "\n")


def _run(store: Store, recipe: str, version: str, number: int) -> Document:
    request: Document = {"recipe": recipe, "tune": TUNE}
    cell = {"kind": "memory", **request, "code": version, "run": number}
    found = store.find(cell)
    if found is None:
        found = answer("memory_cell", request)
        store.save(cell, found)
    return found


def lines(recipe: str, runs: Sequence[Document]) -> Iterator[str]:
    """Rows of the table."""
    units = [cast("Mapping[str, Mapping[str, tuple[float, float]]]", run["units"]) for run in runs]
    for term in TERMS:
        unit = max(units[0], key=lambda name: units[0][name][term][1])
        found, forecasts = zip(*(one[unit][term] for one in units), strict=True)
        measured, forecast = median(found), median(forecasts)
        off = f"{forecast / measured - 1:+.0%}" if measured else "-"
        shown = f"{measured:.0f} | {min(found):.0f}, {max(found):.0f} | {forecast:.0f}"
        yield f"| {recipe} | {term} | {unit} | {shown} | {off} |"


if __name__ == "__main__":
    main()
