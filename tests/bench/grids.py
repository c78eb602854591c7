"""``make bench-grids``: what the levels of a grid are worth, with each way to choose the codes.

ResNet-20 between 8-bit ends: weights on integers, powers, codebooks and NF4 of as many bits, then
activations. Prints means over seeds, and writes ``build/bench/grids.json``. Finished cells are
kept. Loads no torch.
"""

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import cast

from tests.bench.accuracy import BUILD, MINUTES, Bench
from tests.bench.cells import Budget, Document, Json, Store
from tests.bench.matrix import RESNET20
from tests.bench.text_cell import text_result

SEEDS = 3
PRESETS = ("rtn", "rtn_gram", "hybrid")
WEIGHTS = (
    *("int2", "power2", "codebook2", "int3", "power3", "codebook3"),
    *("int4", "power4", "nf4", "codebook4"),
)
ACTIVATIONS = (
    *("uint3 asymmetric", "power3", "log2_3", "uint4 asymmetric", "power4", "log2_4"),
    *("logsqrt2_4", "mxfp4", "nvfp4", "fp6_e2m3"),
)
EIGHT = {"weight": "int8", "act": "uint8 asymmetric"}
RECIPE = """qrecipe 1
model "zoo:resnet20"
scheme ends {{ weight int8; act uint8 asymmetric }}
scheme inner {{ weight {weight}; act {act} }}
policy main {{
  use inner for conv or linear
  use ends for first(conv) or last(linear)
}}
calibrate {{ data = "zoo:fashion_mnist/calib"; samples = 256; batch = 32; seed = {seed} }}
tune {preset}
"""


@dataclass(frozen=True, slots=True)
class Case:
    slot: str
    """``weight`` or ``act``: the other one has 8 bits."""
    format: str
    preset: str
    seed: int

    @property
    def text(self) -> str:
        slots = {**EIGHT, self.slot: self.format}
        return RECIPE.format(**slots, preset=self.preset, seed=self.seed)

    @property
    def label(self) -> str:
        return f"{self.slot} {self.format} {self.preset} seed {self.seed}"


def cases(seeds: int) -> Iterator[Case]:
    for seed in range(1, seeds + 1):
        for slot, formats in (("weight", WEIGHTS), ("act", ACTIVATIONS)):
            for number in formats:
                for preset in PRESETS:
                    yield Case(slot, number, preset, seed)


def means(found: dict[Case, Document]) -> list[dict[str, Json]]:
    """Over the seeds, in the order of the cases."""
    groups: dict[tuple[str, str, str], list[Document]] = {}
    for case, one in found.items():
        groups.setdefault((case.slot, case.format, case.preset), []).append(one)
    entries: list[dict[str, Json]] = []
    for (slot, number, preset), group in groups.items():
        kl = [cast("float", one["kl"]) for one in group]
        entries.append(
            {
                "slot": slot,
                "format": number,
                "preset": preset,
                "seeds": len(group),
                "top1": mean(cast("float", one["top1"]) for one in group),
                "kl": mean(kl),
                "stdev_kl": stdev(kl) if len(kl) > 1 else 0.0,
            }
        )
    return entries


def as_markdown(entries: list[dict[str, Json]]) -> str:
    """One line a format: accuracy and divergence of each preset."""
    names = " | ".join(f"`{name}` | KL | +-" for name in PRESETS)
    lines = [f"| slot | format | {names} |", f"|---|---|{'--:|' * (3 * len(PRESETS))}"]
    lined: dict[tuple[Json, Json], dict[Json, str]] = {}
    for entry in entries:
        top1 = 100 * cast("float", entry["top1"])
        shown = f"{top1:.2f} | {entry['kl']:.4f} | {entry['stdev_kl']:.4f}"
        lined.setdefault((entry["slot"], entry["format"]), {})[entry["preset"]] = shown
    for (slot, number), of_presets in lined.items():
        cells = " | ".join(of_presets.get(name, "- | - | -") for name in PRESETS)
        lines.append(f"| {slot} | `{number}` | {cells} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=MINUTES, help="time limit of this call")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--only", default="", help="cases whose label matches this pattern")
    given = parser.parse_args()
    bench = Bench(Store(BUILD / "cells"), Budget(given.minutes * 60), given.threads)
    of_float = bench.float_result(RESNET20)
    if of_float is None:
        sys.exit("the float model was not measured")
    found: dict[Case, Document] = {}
    missing: list[str] = []
    for case in cases(given.seeds):
        if re.search(given.only, case.label):
            one = text_result("grid", case.label, case.text, bench, of_float)
            if one is None:
                missing.append(case.label)
            else:
                found[case] = one
    entries = means(found)
    document = {"float": of_float["top1"], "rows": entries, "missing": missing}
    Path(BUILD / "grids.json").write_text(json.dumps(document, indent=1) + "\n")
    print(as_markdown(entries))
    if missing:
        print(f"\n{len(missing)} cases are missing; call again to continue")


if __name__ == "__main__":
    main()
