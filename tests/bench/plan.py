"""``make bench-plan``: what capture and analysis cost, from 1,000 nodes to 70 billion parameters.

Seconds are of processor time in one thread, so that a busy machine does not falsify them. Writes
``build/bench/plan.json``; finished rows are kept, so that a second call continues.
"""

import json
import platform
import subprocess
import sys
from math import log
from pathlib import Path
from typing import cast

from tests.bench.captured import captured_rows
from tests.bench.cells import Document, Store, code_version

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "bench"
SIZES = (1_000, 3_000, 10_000, 30_000, 100_000)
ROWS = (*(f"generated-{size}" for size in SIZES), "vit-b16", "llama-70b")
SOURCES = ("qcompile", "tests/bench/plan_cell.py", "tests/bench/generated_graph.py")


def main() -> None:
    store = Store(BUILD / "plan-cells")
    version = code_version(ROOT, SOURCES)
    rows = [_row(store, name, version) for name in ROWS]
    machine = {"python": platform.python_version(), "machine": platform.machine()}
    document = {
        "machine": machine,
        "rows": rows,
        "exponent": exponent(rows),
        "captured": captured_rows(),
    }
    (BUILD / "plan.json").write_text(json.dumps(document, indent=2) + "\n")
    print(f"analysis grows as nodes to the power {exponent(rows):.2f} (1 is linear)")


def _row(store: Store, name: str, version: str) -> Document:
    cell = {"model": name, "code": version}
    found = store.find(cell)
    if found is None:
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench.plan_cell"],
            input=json.dumps({"model": name}),
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        found = cast("Document", json.loads(done.stdout))
        store.save(cell, found)
    print(
        f"{name:<18} {found['nodes']:>7} nodes  capture {found['capture_s']:>7} s  "
        f"analysis {found['analysis_s']:>7} s  peak {found['peak_rss_mb']:>7} MB",
        flush=True,
    )
    return found


def exponent(rows: list[Document]) -> float:
    """Slope of analysis time over nodes on logarithmic axes, between smallest and largest graph."""
    seconds = {str(row["model"]): float(cast("float", row["analysis_s"])) for row in rows}
    small, large = (seconds[f"generated-{SIZES[at]}"] for at in (0, -1))
    return log(large / small) / log(SIZES[-1] / SIZES[0])


if __name__ == "__main__":
    main()
