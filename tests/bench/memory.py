"""``make bench-memory``: what streams, statistics and learning each add, beside the forecast.

Three runs of a model, each in a process of its own: nearest rounding holds the streams alone, the
layer solver adds its statistics, the gradient its steps. Terms are those of the unit that needs
most in the third run. Writes ``build/bench/memory.json`` and prints a table. Finished runs are
kept, so that a second call continues. Loads no torch.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import cast

from tests.bench.cells import Document, Store, code_version
from tests.bench.child import answer

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "bench"
RECIPES = ("efficientnet_lite0-w4", "vit_s14-w4", "resnet20-w4a8")
GRADIENT = (
    "hybrid { solver = [optq, cd, gradient]; partition = block; "
    "learn = [rounding, scale, bias]; steps = 5 }"
)
"""Memory is that of the first steps."""
TUNES = ("rtn", "hybrid", GRADIENT)
TERMS = ("streams", "statistics", "learning")
SOURCES = ("qcompile", "tests/bench/memory_cell.py", "tests/bench/hard_models.py")
LIMIT = 0.15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="recipes whose name contains this text")
    only: str = parser.parse_args().only
    store = Store(BUILD / "memory-cells")
    version = code_version(ROOT, SOURCES)
    found: dict[str, list[Document]] = {}
    print("| recipe | unit | term | MB | forecast | |\n|---|---|---|--:|--:|--:|")
    for recipe in RECIPES:
        if only in recipe:
            found[recipe] = [_run(store, recipe, tune, version) for tune in TUNES]
            print("\n".join(lines(recipe, found[recipe])), flush=True)
    (BUILD / "memory.json").write_text(json.dumps(found, indent=1) + "\n")


def _run(store: Store, recipe: str, tune: str, version: str) -> Document:
    request: Document = {"recipe": recipe, "tune": tune}
    cell = {"kind": "memory", **request, "code": version}
    found = store.find(cell)
    if found is None:
        found = answer("memory_cell", request)
        store.save(cell, found)
    return found


def lines(recipe: str, runs: list[Document]) -> Iterator[str]:
    """Rows of the table: each term, and all of them."""
    unit = max(_units(runs[-1]), key=lambda name: _units(runs[-1])[name]["peak_mb"])
    peaks = [_units(run)[unit]["peak_mb"] for run in runs]
    expected = _units(runs[-1])[unit]
    later = [expected[f"{term}_mb_forecast"] for term in TERMS[1:]]
    terms = [peaks[0], *(more - less for less, more in pairwise(peaks))]
    forecasts = [expected["peak_mb_forecast"] - sum(later), *later]
    rows = zip((*TERMS, "in all"), (*terms, sum(terms)), (*forecasts, sum(forecasts)), strict=True)
    for term, measured, forecast in rows:
        off = forecast / measured - 1
        yield f"| {recipe} | {unit} | {term} | {measured:.0f} | {forecast:.0f} | {off:+.0%} |"


def _units(run: Document) -> Mapping[str, Mapping[str, float]]:
    return cast("Mapping[str, Mapping[str, float]]", run["units"])


if __name__ == "__main__":
    main()
