"""``make bench-language``: what presets keep of a language model, SmolLM2-135M on Wikipedia.

Prints perplexity, divergence and agreement on articles that no calibration saw, and writes
``build/bench/language.json``. Finished cells are kept. Loads no torch.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tests.bench.accuracy import BUILD, COMPILER_SOURCES, MINUTES
from tests.bench.cells import Budget, Document, Store, code_version
from tests.bench.child import answer
from tests.bench.matrix import ROOT

FOLDER = BUILD / "smollm2"
SOURCES = (
    *COMPILER_SOURCES,
    "qcompile/methods",
    *("tests/bench/smollm2.py", "tests/bench/wiki_text.py", "tests/bench/language_cell.py"),
)
PRESETS = ("rtn", "rtn_gram", "optq", "gptaq", "hybrid")
SCHEMES = {
    "w4g64": "weight int4 asymmetric per_group(64)",
    "w3g64": "weight int3 asymmetric per_group(64)",
    "w8a8": "weight int8 per_channel; act int8 per_token",
    "w4a8": "weight int4 asymmetric per_group(64); act int8 per_token",
}
LENGTH, WINDOWS = 512, 16
"""Of the test, in tokens."""
RECIPE = """qrecipe 1
model "hf:smollm2"
scheme inner {{ {scheme} }}
policy main {{
  use inner for linear
  skip "lm_head"
}}
calibrate {{
  data = "text:calibration.txt"
  samples = {samples}
  batch = 8
  seq_len = {length}
  seed = {seed}
}}
tune {preset}
"""
HEADER = (
    "| weights and activations | preset | seed | perplexity | float | KL | same next token "
    "| on disk | cpu s | peak MB |",
    "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
)


@dataclass(frozen=True, slots=True)
class Case:
    scheme: str
    preset: str
    seed: int

    @property
    def label(self) -> str:
        return f"{self.scheme} {self.preset} seed {self.seed}"

    def text(self, samples: int, length: int) -> str:
        return RECIPE.format(
            scheme=SCHEMES[self.scheme],
            preset=self.preset,
            seed=self.seed,
            samples=samples,
            length=length,
        )


def cases(seeds: int) -> Iterator[Case]:
    for seed in range(1, seeds + 1):
        for scheme in SCHEMES:
            for preset in PRESETS:
                yield Case(scheme, preset, seed)


def line(case: Case, found: Document) -> str:
    number = {name: cast("float", value) for name, value in found.items() if name != "torch"}
    sizes = f"{number['bytes_before'] / 1e6:.0f} -> {number['bytes'] / 1e6:.0f} MB"
    cells = (
        case.scheme,
        f"`{case.preset}`",
        str(case.seed),
        f"{number['perplexity']:.2f}",
        f"{number['float_perplexity']:.2f}",
        f"{number['kl']:.4f}",
        f"{100 * number['agreement']:.1f}",
        sizes,
        f"{number['cpu_seconds']:.0f}",
        f"{number['peak_bytes'] / 1e6:,.0f}",
    )
    return f"| {' | '.join(cells)} |"


def result(case: Case, text: str, store: Store, budget: Budget, threads: int) -> Document | None:
    cell = {
        "kind": "language",
        "recipe": text,
        "windows": [LENGTH, WINDOWS],
        "code": code_version(ROOT, SOURCES),
    }
    found = store.find(cell)
    if found is not None or budget.is_spent:
        return found
    request = {
        "folder": str(FOLDER),
        "name": re.sub(r"\W+", "-", case.label),
        "text": text,
        "length": LENGTH,
        "windows": WINDOWS,
        "threads": threads,
    }
    try:
        found = answer("language_cell", request, limit=budget.left, quiet=True)
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as problem:
        print(f"{case.label}: {type(problem).__name__}", file=sys.stderr)
        return None
    print(f"{case.label}: {found['perplexity']:.2f}", file=sys.stderr)
    store.save(cell, found)
    return found


def as_markdown(found: Sequence[tuple[Case, Document]], missing: Sequence[str]) -> str:
    lines = [*HEADER, *(line(*one) for one in found)]
    if missing:
        lines += ["", f"{len(missing)} rows are missing; call again to continue:"]
        lines += [f"- {label}" for label in missing]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=MINUTES, help="time limit of this call")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--samples", type=int, default=64, help="windows to calibrate on")
    parser.add_argument("--length", type=int, default=128, help="tokens of each")
    parser.add_argument("--only", default="", help="rows whose label matches this pattern")
    given = parser.parse_args()
    store, budget = Store(BUILD / "cells"), Budget(given.minutes * 60)
    found: list[tuple[Case, Document]] = []
    missing: list[str] = []
    for case in cases(given.seeds):
        if re.search(given.only, case.label):
            text = case.text(given.samples, given.length)
            one = result(case, text, store, budget, given.threads)
            if one is None:
                missing.append(case.label)
            else:
                found.append((case, one))
    rows = [{"scheme": c.scheme, "preset": c.preset, "seed": c.seed, **one} for c, one in found]
    document = {"samples": given.samples, "length": given.length, "rows": rows, "missing": missing}
    Path(BUILD / "language.json").write_text(json.dumps(document, indent=1) + "\n")
    print(as_markdown(found, missing))


if __name__ == "__main__":
    main()
