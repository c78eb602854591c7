"""``make bench-forecast``: what a run takes, beside what its plan said it would.

Writes ``build/bench/forecast.json`` and prints a table. Finished rows are kept, so that a second
call continues. Loads no torch.
"""

import argparse
import json
import os
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from tests.bench.cells import Document, Store, code_version
from tests.bench.child import answer

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "bench"
DEMO, HARD = ("resnet20-w4a8", "vit_small-w4a8"), ("efficientnet_lite0-w4", "vit_s14-w4")
TUNES = ("rtn", "hybrid", "brecq { steps = 100 }")
"""Time grows in proportion to the steps: a hundred of them tell what a thousand take."""
COARSE = ("efficientnet_lite0-w4a4", "vit_s14-w4a4")
"""Whose ranges of activations are chosen for the outputs of layers."""
FEWER = ("rtn", "hybrid", "brecq { steps = 20 }")
LEVELS = (
    {"weight": "nf4 per_channel"},
    {"weight": "power4 per_channel", "act": "power4 per_tensor"},
    {"weight": "codebook4 per_channel"},
)
"""Formats that stand in for those of the first demo recipe, by slot."""
REQUESTS: tuple[dict[str, str], ...] = (
    *({"recipe": r, "tune": t} for r, t in (*product(DEMO, TUNES), *product(HARD, FEWER))),
    *({"recipe": DEMO[0], "tune": t, **slots} for slots, t in product(LEVELS, TUNES[:2])),
    *({"recipe": recipe, "tune": "hybrid"} for recipe in COARSE),
)
LIMITS = (("seconds", 0.30), ("peak_mb", 0.15), ("bytes", 0.0))
"""How far a forecast may be off, as a share of what was measured."""
SOURCES = (
    "qcompile",
    "tests/bench/forecast_cell.py",
    "tests/bench/forecast_machine.py",
    "tests/bench/fashion.py",
    "tests/bench/hard_models.py",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="rows whose name contains this text")
    only: str = parser.parse_args().only
    store = Store(BUILD / "forecast-cells")
    version = code_version(ROOT, SOURCES)
    rows: list[Document] = []
    for request in REQUESTS:
        if only in " ".join(request.values()):
            rows.append({**request, **_row(store, request, version)})
            print(line(rows[-1]), flush=True)
    (BUILD / "forecast.json").write_text(json.dumps({"rows": rows}, indent=2) + "\n")
    missed = [
        name for name, _ in LIMITS if any(off(row, name) > dict(LIMITS)[name] for row in rows)
    ]
    print(f"further off than asked: {', '.join(missed) or 'none'}")


def _row(store: Store, request: dict[str, str], version: str) -> Document:
    cell = {"kind": "forecast", **request, "code": version}
    found = store.find(cell)
    if found is not None:
        return found
    with TemporaryDirectory() as cache:  # measured anew: the speed of a machine others use varies
        apart = os.environ | {"XDG_CACHE_HOME": cache}
        answer("forecast_machine", request, environment=apart)
        made = answer("forecast_cell", request, environment=apart)
    store.save(cell, made)
    return made


def off(row: Document, figure: str) -> float:
    """Share of the measured figure by which the forecast is off."""
    return abs(_number(row, f"{figure}_forecast") / _number(row, figure) - 1)


def line(row: Document) -> str:
    figures = [
        f"{name} {_number(row, name):.5g}, forecast {_number(row, f'{name}_forecast'):.5g} "
        f"({_number(row, f'{name}_forecast') / _number(row, name) - 1:+.0%})"
        for name, _ in LIMITS
    ]
    slots = "".join(f" {slot} {row[slot]}" for slot in ("weight", "act") if slot in row)
    return f"{row['recipe']}{slots} tune {row['tune']}: {'; '.join(figures)}"


def _number(row: Document, name: str) -> float:
    return float(cast("float", row[name]))


if __name__ == "__main__":
    main()
