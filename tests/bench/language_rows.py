"""What the tables of ``make bench-language`` have in common: options, cells, how they are shown.

Loads no torch.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from tests.bench.accuracy import BUILD, MINUTES
from tests.bench.cells import Budget, Document, Json, Store
from tests.bench.child import answer


class Labelled(Protocol):
    @property
    def label(self) -> str: ...


Row = TypeVar("Row", bound=Labelled)
Found = list[tuple[Row, Document]]


def options(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--minutes", type=float, default=MINUTES, help="time limit of this call")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--samples", type=int, default=64, help="windows to calibrate on")
    parser.add_argument("--length", type=int, default=128, help="tokens of each")
    parser.add_argument("--only", default="", help="rows whose label matches this pattern")
    return parser.parse_args()


def measured(
    given: argparse.Namespace,
    cases: Iterable[Row],
    ask: Callable[[Row], tuple[str, Document, Document]],
) -> tuple[Found[Row], list[str]]:
    """Rows, and labels of those that are missing.

    ``ask`` gives the module that answers, the request, and what the answer is kept by.
    """
    store, budget = Store(BUILD / "cells"), Budget(given.minutes * 60)
    found: Found[Row] = []
    missing: list[str] = []
    for case in cases:
        if re.search(given.only, case.label):
            one = _result(case.label, *ask(case), store, budget)
            if one is None:
                missing.append(case.label)
            else:
                found.append((case, one))
    return found, missing


def report(
    name: str,
    given: argparse.Namespace,
    rows: Sequence[Mapping[str, Json]],
    lines: Sequence[str],
    missing: Sequence[str],
) -> None:
    """Write ``build/bench/NAME.json``, and print ``lines`` and what is missing."""
    document = {"samples": given.samples, "length": given.length, "rows": rows, "missing": missing}
    (BUILD / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
    print("\n".join(lines))
    if missing:
        print(f"\n{len(missing)} rows are missing; call again to continue:")
        print("\n".join(f"- {label}" for label in missing))


def _result(
    label: str, module: str, request: Document, cell: Document, store: Store, budget: Budget
) -> Document | None:
    found = store.find(cell)
    if found is not None or budget.is_spent:
        return found
    try:
        found = answer(module, request, limit=budget.left, quiet=True)
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as problem:
        print(f"{label}: {type(problem).__name__}", file=sys.stderr)
        return None
    print(f"{label}: {found['perplexity']:.2f}", file=sys.stderr)
    store.save(cell, found)
    return found
