"""``make bench-blocks``: what layer solver, gradient and published settings make of one block.

Writes ``build/bench/blocks.json`` and prints a table. Every method fits the same block behind the
same quantized prefix; errors are on images that no method saw. Finished cells are kept. With
``--long`` the 20,000 steps of the papers are run, elsewhere their time is extrapolated from the
steps that were. Loads no torch.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tests.bench.accuracy import BENCH_SOURCES, BUILD, COMPILER_SOURCES, MINUTES
from tests.bench.block_methods import FITTED, HELD_OUT, PREFIX, PUBLISHED, Trial, trials
from tests.bench.cells import Budget, Document, Json, Store, code_version, key
from tests.bench.child import answer
from tests.bench.matrix import ROOT
from tests.bench.variant import TUNE

SOURCES = (*BENCH_SOURCES, *COMPILER_SOURCES, "tests/bench/block_cell.py")
SAMPLES = re.compile(r"^(\s*samples\s*=\s*)\d+$", re.MULTILINE)
HEADER = (
    "| block | bits | method | steps | error | with bias refit | fitted | guard: start -> learned "
    "| kept | soft % | s | cpu s | cpu s of 20,000 steps |",
    "|---|---|---|--:|--:|--:|--:|--:|---|--:|--:|--:|--:|",
)


@dataclass(frozen=True, slots=True)
class Result:
    trial: Trial
    found: Document

    @property
    def account(self) -> dict[str, Json]:
        """Of the guard; empty where nothing was learned."""
        accounts = cast("list[dict[str, Json]]", self.found["accounts"])
        return accounts[0] if accounts else {}

    @property
    def extrapolated(self) -> float | None:
        """Processor seconds of ``PUBLISHED`` steps; ``None`` where there are no steps."""
        step = cast("float | None", self.found["seconds_a_step"])
        if step is None:
            return None
        rest = PUBLISHED - self.trial.method.steps
        return cast("float", self.found["cpu_seconds"]) + rest * step

    @property
    def entry(self) -> dict[str, Json]:
        trial = self.trial
        return {
            "model": trial.block.model,
            "block": trial.block.block,
            "scheme": trial.bits,
            "method": trial.method.name,
            "steps": trial.method.steps,
            **self.found,
            "cpu_seconds_of_20000_steps": self.extrapolated,
            "is_extrapolated": self.extrapolated is not None and not trial.method.is_long,
        }

    @property
    def line(self) -> str:
        account, long = self.account, self.extrapolated
        learned = account.get("learned")
        cells = (
            f"{self.trial.block.model} {self.trial.block.block}",
            self.trial.bits,
            self.trial.method.name,
            f"{self.trial.method.steps or '-'}",
            *(f"{self.found[name]:.4f}" for name in ("error", "error_after_bias", "error_fitted")),
            f"{account['start']:.4f} -> {learned:.4f}" if account else "-",
            account.get("kept", "-"),
            f"{100 * cast('float', account['soft_share']):.1f}" if account else "-",
            *(f"{self.found[name]:.1f}" for name in ("seconds", "cpu_seconds")),
            "-"
            if long is None
            else f"{long:.0f}{'' if self.trial.method.is_long else ' (extrapolated)'}",
        )
        return f"| {' | '.join(map(str, cells))} |"


def text_of(trial: Trial, tune: str) -> str:
    """The block's recipe with the method's ``tune``, and the images that judge it."""
    text, tunes = TUNE.subn(tune, trial.recipe.read_text())
    text, counts = SAMPLES.subn(rf"\g<1>{FITTED + HELD_OUT}", text, count=1)
    assert tunes == counts == 1, trial.recipe
    return text


def result(trial: Trial, store: Store, budget: Budget, threads: int) -> Result | None:
    code = code_version(ROOT, SOURCES)
    prefix_text, text = text_of(trial, PREFIX), text_of(trial, trial.method.tune)
    front = {"kind": "prefix", "block": trial.block.block, "text": prefix_text, "code": code}
    cell = {**front, "kind": "block", "method": text}
    found = store.find(cell)
    if found is None and not budget.is_spent:
        request = {
            "recipe": str(trial.recipe),
            "text": text,
            "prefix_text": prefix_text,
            "prefix": str(BUILD / "prefixes" / f"{key(front)}.pt"),
            "block": trial.block.block,
            "threads": threads,
        }
        found = _computed(request, budget.left, trial.label)
        if found is not None:
            store.save(cell, found)
    return None if found is None else Result(trial, found)


def _computed(request: Document, limit: float | None, label: str) -> Document | None:
    try:
        found = answer("block_cell", request, limit=limit)
    except subprocess.TimeoutExpired:
        return None
    except subprocess.CalledProcessError:  # its traceback is on standard error
        print(f"{label}: failed", file=sys.stderr)
        return None
    print(f"{label}: {found['error']:.4f} in {found['seconds']:.0f} s", file=sys.stderr)
    return found


def as_markdown(results: Sequence[Result], missing: Sequence[Trial]) -> str:
    order = {trial: place for place, trial in enumerate(trials(long=True))}
    ranked = sorted(
        results, key=lambda one: (one.trial.block.model, one.trial.bits, order[one.trial])
    )
    lines = [*HEADER, *(one.line for one in ranked)]
    if missing:
        lines += ["", f"{len(missing)} rows are missing; call again to continue:"]
        lines += [f"- {trial.label}" for trial in missing]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=MINUTES, help="time limit of this call")
    parser.add_argument("--long", action="store_true", help="20,000 steps too; no time limit")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="rows whose label matches this pattern")
    given = parser.parse_args()
    store = Store(BUILD / "cells")
    budget = Budget(None if given.long else given.minutes * 60)
    results: list[Result] = []
    missing: list[Trial] = []
    for trial in trials(long=given.long):
        if re.search(given.only, trial.label):
            found = result(trial, store, budget, given.threads)
            if found is None:
                missing.append(trial)
            else:
                results.append(found)
    document = {
        "rows": [one.entry for one in results],
        "missing": [trial.label for trial in missing],
    }
    Path(BUILD / "blocks.json").write_text(json.dumps(document, indent=1) + "\n")
    print(as_markdown(results, missing))


if __name__ == "__main__":
    main()
