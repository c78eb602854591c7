"""``make bench-plan``: what capture and analysis cost, from 1,000 nodes to 70 billion parameters.

Seconds are of processor time in one thread, so that a busy machine does not falsify them. Writes
``build/bench/plan.json``; finished rows are kept, so that a second call continues. Loads no torch.
"""

import argparse
import json
import os
import platform
from collections.abc import Iterator, Sequence
from math import log
from pathlib import Path
from statistics import linear_regression
from typing import cast

from tests.bench.captured import captured_rows
from tests.bench.cells import Document, Json, Store, code_version
from tests.bench.child import answer

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "bench"
SHAPES = ("chain", "wide", "reused")
SIZES = (1_000, 10_000, 100_000)
GENERATED = tuple(f"{shape}-{size}" for shape in SHAPES for size in SIZES)
PREVIEWS = ("vit-b16", "llama-70b")
LIMITS = (
    ("vit-b16", "seconds", 5),
    ("llama-70b", "seconds", 60),
    ("llama-70b", "peak_rss_mb", 2e3),
)
N_LOG_N = 1 + log(log(SIZES[-1]) / log(SIZES[0])) / log(SIZES[-1] / SIZES[0])
"""Exponent to which ``n log n`` comes between the smallest and the largest size."""
SOURCES = ("qcompile", "tests/bench/plan_cell.py", "tests/bench/generated_graph.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="rows whose name contains this text")
    only: str = parser.parse_args().only
    store = Store(BUILD / "plan-cells")
    version = code_version(ROOT, SOURCES)
    names = [name for name in (*PREVIEWS, *GENERATED) if only in name]
    rows = [_row(store, name, version) for name in names]
    goals = list(_goals(rows))
    machine = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
    }
    document = {"machine": machine, "rows": rows, "goals": goals, "captured": captured_rows()}
    (BUILD / "plan.json").write_text(json.dumps(document, indent=2) + "\n")
    for goal in goals:
        print(f"{goal['goal']}: {goal['found']:.4g}, at most {goal['limit']:.4g}")


def _row(store: Store, name: str, version: str) -> Document:
    cell = {"kind": "plan", "model": name, "code": version}
    found = store.find(cell)
    if found is None:
        found = answer("plan_cell", {"model": name})
        store.save(cell, found)
    print(
        f"{name:<14} {found['nodes']:>7} nodes  capture {found.get('capture_s', '-'):>6} s  "
        f"analysis {found['analysis_s']:>7} s  peak {found['peak_rss_mb']:>7} MB",
        flush=True,
    )
    return found


def _goals(rows: Sequence[Document]) -> Iterator[dict[str, Json]]:
    """What was asked of the rows that there are, and what was found."""
    for name, figure, limit in LIMITS:
        for row in rows:
            if row["model"] == name:
                yield {"goal": f"{name} {figure}", "limit": limit, "found": _figure(row, figure)}
    for shape in SHAPES:
        found = [row for row in rows if f"{row['model']}".startswith(f"{shape}-")]
        if len(found) == len(SIZES):
            growth = exponent(found)
            yield {"goal": f"exponent of {shape}", "limit": N_LOG_N, "found": growth}


def _figure(row: Document, name: str) -> float:
    if name == "seconds":
        return _figure(row, "capture_s") + _figure(row, "analysis_s")
    return float(cast("float", row[name]))


def exponent(rows: Sequence[Document]) -> float:
    """Slope of analysis time over nodes on logarithmic axes, by least squares."""
    nodes = [log(_figure(row, "nodes")) for row in rows]
    seconds = [log(_figure(row, "analysis_s")) for row in rows]
    return linear_regression(nodes, seconds).slope


if __name__ == "__main__":
    main()
