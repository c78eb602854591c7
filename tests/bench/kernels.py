"""``make bench-kernels``: how fast each target is beside float, and how close to the simulation.

Writes ``build/bench/kernels.json`` and prints a table. Finished cells are kept: call it again to
continue. The baseline is the faster of the two memory layouts in float. `products_ms` is what the
integer products take by themselves, and `ceiling` float beside that: more no lowering could reach
with these kernels. `fastest` says where bfloat16 or float wins. Loads no torch.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from tests.bench.cells import Budget, Document, Json, Store, code_of_process
from tests.bench.child import answer
from tests.bench.matrix import ROOT

BUILD = ROOT / "build" / "bench"
MINUTES = 60
RUNS = 15
IMAGES, ROWS = (1, 8, 32), (1, 32, 128)
PEER_IMAGES = (8,)
PRODUCTS = ("linear 2048x2048", "SmolLM2 layer")
CODES = "8-bit shortcuts"
VISION = (
    *("ResNet-18 shape", f"ResNet-18 shape, {CODES}"),
    *("EfficientNet-Lite0", f"EfficientNet-Lite0, {CODES}"),
    *("ViT-S/14", "ResNet-20", f"ResNet-20, {CODES}"),
)
WEIGHT_ONLY = ("cpu-int4", "cpu-int8-weight-only")
SOURCES = (
    *("qcompile/compat", "qcompile/emit", "qcompile/quant", "qcompile/targets"),
    *("tests/bench/kernel_cell.py", "tests/bench/kernel_ceiling.py"),
    *("tests/bench/kernel_models.py", "tests/bench/kernel_peers.py"),
)
COLUMNS = (
    *("model", "target", "threads", "batch", "ms", "float_ms", "bf16_ms", "speedup", "fastest"),
    *("products_ms", "ceiling"),
    *("max_rel_err", "layer_rel_err", "simulation_rel_err", "int_mac_share", "load_s"),
)


@dataclass(frozen=True, slots=True)
class Cell:
    model: str
    target: str
    threads: int
    batches: tuple[int, ...]
    peer_batches: tuple[int, ...]

    @property
    def label(self) -> str:
        return f"{self.model} {self.target} {self.threads}"


def cells() -> Iterator[Cell]:
    for threads in (1, 2):
        for model in VISION:
            yield Cell(model, "x86-int8", threads, IMAGES, PEER_IMAGES)
        for model in PRODUCTS:
            for target in ("x86-int8", *WEIGHT_ONLY):
                yield Cell(model, target, threads, ROWS, ROWS)


def result(cell: Cell, store: Store, budget: Budget, runs: int) -> Document | None:
    """``None`` when the time is up, or when it failed."""
    request: Document = {
        "model": cell.model,
        "target": cell.target,
        "threads": cell.threads,
        "batches": list(cell.batches),
        "peer_batches": list(cell.peer_batches),
        "runs": runs,
    }
    content = {"kind": "kernels", **request, "code": code_of_process(ROOT, SOURCES)}
    found = store.find(content)
    if found is not None or budget.is_spent:
        return found
    try:
        made = answer("kernel_cell", request, limit=budget.left)
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
        print(f"{cell.label}: not measured", file=sys.stderr)
        return None
    store.save(content, made)
    print(f"{cell.label}: done", file=sys.stderr)
    return made


def table(rows: list[dict[str, Json]]) -> str:
    """Format numbers as they are read: milliseconds with one digit, shares in percent."""
    times = ("ms", "float_ms", "bf16_ms", "speedup", "products_ms", "ceiling")
    formats = dict.fromkeys(times, ".2f")
    formats |= dict.fromkeys(("max_rel_err", "layer_rel_err", "simulation_rel_err"), ".1e")
    formats |= {"int_mac_share": ".1%", "load_s": ".1f"}
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    for row in rows:
        given = ((row[name], formats.get(name, "")) for name in COLUMNS)
        shown = ["" if value is None else format(value, form) for value, form in given]
        lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines)


def peer_table(rows: list[dict[str, Json]]) -> str:
    """What others took for the same input, and until their first result; ours beside.

    ``share``: our speed as a share of theirs.
    """
    heads = ("model", "target", "threads", "batch", "ms", "peer", "peer_ms", "share", "build_s")
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for row in rows:
        for name, found in cast("dict[str, dict[str, Json]]", row["peers"]).items():
            given = [str(row[key]) for key in heads[:4]] + [format(row["ms"], ".2f"), name]
            given += (
                [str(found["failed"]), "", ""]
                if "failed" in found
                else [
                    format(found["ms"], ".2f"),
                    format(cast("float", found["ms"]) / cast("float", row["ms"]), ".0%"),
                    format(found["build_s"], ".0f"),
                ]
            )
            lines.append(f"| {' | '.join(given)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=MINUTES, help="time limit of this call")
    parser.add_argument("--full", action="store_true", help="no time limit")
    parser.add_argument("--runs", type=int, default=RUNS, help="of each form in a cell")
    parser.add_argument("--only", default="", help="cells whose label contains this text")
    given = parser.parse_args()
    budget = Budget(None if given.full else given.minutes * 60)
    store = Store(BUILD / "cells")
    rows: list[dict[str, Json]] = []
    machine: Json = None
    for cell in cells():
        made = result(cell, store, budget, given.runs) if given.only in cell.label else None
        if made is None:
            continue
        machine = made["machine"]
        shared = {"model": cell.model, "target": cell.target, "threads": cell.threads}
        rows += [{**shared, **row} for row in cast("list[dict[str, Json]]", made["rows"])]
    BUILD.mkdir(parents=True, exist_ok=True)
    document = {"machine": machine, "rows": rows}
    (BUILD / "kernels.json").write_text(json.dumps(document, indent=1) + "\n")
    print(f"{table(rows)}\n\n{peer_table(rows)}\n\n{json.dumps(machine)}")


if __name__ == "__main__":
    main()
