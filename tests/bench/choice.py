"""``make bench-choose``: do the bits that a budget chooses keep more than others in the same bytes?

ResNet-20 between 8-bit ends, in the bytes of uniform weights: what ``choose`` takes, beside uniform
bits, the smallest layers first, and bits at random. Also how well the sum of the measured increases
ranks them. Writes ``build/bench/choose.json``. Finished cells are kept. Loads no torch.
"""

import argparse
import json
import os
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import cast

import scipy

from qcompile.policy.choice import ChoicePlan
from tests.bench.accuracy import BUILD, MINUTES, Bench
from tests.bench.cells import Budget, Document, Json, Store
from tests.bench.matrix import RESNET20
from tests.bench.text_cell import text_result

SEEDS = 3
RANDOM = 10
"""Assignments at random, with the first seed."""
UNIFORM = (3, 4)
PRESETS = ("rtn", "hybrid")
BITS = (2, 3, 4, 6, 8)
LAYERS = "conv or linear"
RECIPE = """qrecipe 1
model "zoo:resnet20"
scheme w8a8 {{ weight int8; act uint8 asymmetric }}
{schemes}
policy main {{
{rules}
  use w8a8 for first(conv) or last(linear)
}}
{budget}
calibrate {{ data = "zoo:fashion_mnist/calib"; samples = 256; batch = 32; seed = {seed} }}
tune {preset}
"""


@dataclass(frozen=True, slots=True)
class Setting:
    bits: int
    """Of uniform weights, whose bytes all may take."""
    preset: str
    seed: int

    def recipe(self, rules: Sequence[str], budget: str = "") -> str:
        used = " ".join(rules)
        schemes = [
            f"scheme w{bits}a8 extends w8a8 {{ weight with bits={bits} }}"
            for bits in BITS
            if bits != 8 and f"w{bits}a8" in used
        ]
        return RECIPE.format(
            schemes="\n".join(schemes),
            rules="\n".join(f"  {rule}" for rule in rules),
            budget=budget,
            seed=self.seed,
            preset=self.preset,
        )

    def label(self, how: str) -> str:
        return f"bytes of w{self.bits} {self.preset} {how} seed {self.seed}"


def settings(seeds: int) -> Iterator[Setting]:
    for seed in range(1, seeds + 1):
        for bits in UNIFORM:
            for preset in PRESETS:
                yield Setting(bits, preset, seed)


Assignment = tuple[int, ...]
"""A rung for each group of a choice."""


def smallest_first(choice: ChoicePlan, room: int) -> Assignment:
    """The most bits for the layers with the fewest bytes, as far as they go."""
    sizes = [group.rungs[0].bytes for group in choice.groups]
    return filled(choice, room, sorted(range(len(sizes)), key=sizes.__getitem__))


def at_random(choice: ChoicePlan, room: int, seed: int) -> Assignment:
    """One rung more for a layer at random, until no layer has room for it."""
    draw = random.Random(seed)
    rungs = [0] * len(choice.groups)
    while True:
        able = [
            place
            for place, group in enumerate(choice.groups)
            if rungs[place] + 1 < len(group.rungs) and spent(choice, raised(rungs, place)) <= room
        ]
        if not able:
            return tuple(rungs)
        rungs = raised(rungs, draw.choice(able))


def filled(choice: ChoicePlan, room: int, order: Sequence[int]) -> Assignment:
    rungs = [0] * len(choice.groups)
    for place in order:
        for _ in choice.groups[place].rungs[1:]:
            if spent(choice, raised(rungs, place)) <= room:
                rungs = raised(rungs, place)
    return tuple(rungs)


def raised(rungs: Sequence[int], place: int) -> list[int]:
    return [rung + (at == place) for at, rung in enumerate(rungs)]


def spent(choice: ChoicePlan, rungs: Sequence[int]) -> int:
    pairs = zip(choice.groups, rungs, strict=True)
    return sum(group.rungs[rung].bytes for group, rung in pairs)


def predicted(choice: ChoicePlan, rungs: Sequence[int]) -> float:
    """Sum of the increases that were measured one by one."""
    pairs = zip(choice.groups, rungs, strict=True)
    return sum(group.rungs[rung].loss_increase for group, rung in pairs)


def rules_of(choice: ChoicePlan, rungs: Sequence[int]) -> list[str]:
    return [
        f'use {group.rungs[rung].scheme} for "{key}"'
        for group, rung in zip(choice.groups, rungs, strict=True)
        for key in group.sites
    ]


@dataclass(frozen=True, slots=True)
class Found:
    setting: Setting
    how: str
    predicted: float
    result: Document

    @property
    def kl(self) -> float:
        return cast("float", self.result["kl"])

    @property
    def entry(self) -> dict[str, Json]:
        setting, kept = self.setting, ("bytes", "kl", "top1", "agreement")
        names = {"bits": setting.bits, "preset": setting.preset, "seed": setting.seed}
        measured = {name: self.result[name] for name in kept}
        return {**names, "how": self.how, "predicted": self.predicted, **measured}


def measured(setting: Setting, bench: Bench, of_float: Document) -> Iterator[Found]:
    """The chosen bits first: all others are made of what was measured for them."""

    def run(how: str, rules: Sequence[str], budget: str = "") -> Document | None:
        text = setting.recipe(rules, budget)
        return text_result("choice", setting.label(how), text, bench, of_float)

    uniform = run("uniform", [f"use w{setting.bits}a8 for {LAYERS}"])
    if uniform is None:
        return
    most = cast("int", uniform["bytes"])
    ladder = ", ".join(f"w{bits}a8" for bits in BITS)
    budget = f"budget {{ size <= {most / 1000}kB; minimize loss_increase }}"
    chosen = run("chosen", [f"choose {ladder} for {LAYERS}"], budget)
    if chosen is None:
        return
    choice = ChoicePlan.model_validate(chosen["choice"])
    rungs = tuple(BITS.index(setting.bits) for _ in choice.groups)
    yield Found(setting, "uniform", predicted(choice, rungs), uniform)
    yield Found(setting, "chosen", choice.loss_increase, chosen)
    room = spent(choice, rungs)
    others = {"smallest first": smallest_first(choice, room)}
    if setting.seed == 1:
        others |= {f"random {n}": at_random(choice, room, n) for n in range(1, RANDOM + 1)}
    for how, assignment in others.items():
        result = run(how, rules_of(choice, assignment))
        if result is not None:
            yield Found(setting, how, predicted(choice, assignment), result)


def rank_correlation(found: Sequence[Found]) -> float:
    """Of Spearman, between what was predicted and what came of it."""
    pair = [one.predicted for one in found], [one.kl for one in found]
    return float(scipy.stats.spearmanr(*pair).statistic)


def summary(found: Sequence[Found]) -> list[dict[str, Json]]:
    """A row for each way to choose bits: means over seeds, and over assignments at random."""
    groups: dict[tuple[int, str, str], list[Found]] = {}
    for one in found:
        how = "random" if one.how.startswith("random") else one.how
        groups.setdefault((one.setting.bits, one.setting.preset, how), []).append(one)
    entries: list[dict[str, Json]] = []
    for (bits, preset, how), group in groups.items():
        entries.append(
            {
                "bits": bits,
                "preset": preset,
                "how": how,
                "runs": len(group),
                "kl": mean(one.kl for one in group),
                "least_kl": min(one.kl for one in group),
                "top1": mean(cast("float", one.result["top1"]) for one in group),
                "bytes": mean(cast("int", one.result["bytes"]) for one in group),
            }
        )
    return entries


def as_markdown(entries: Sequence[Mapping[str, Json]]) -> str:
    lines = [
        "| bytes of | preset | bits | runs | kB | top-1 | KL | least KL |",
        "|---|---|---|--:|--:|--:|--:|--:|",
    ]
    for one in entries:
        figures = {name: cast("float", one[name]) for name in ("bytes", "top1", "kl", "least_kl")}
        lines.append(
            f"| w{one['bits']} | `{one['preset']}` | {one['how']} | {one['runs']} "
            f"| {figures['bytes'] / 1000:.1f} | {100 * figures['top1']:.2f} "
            f"| {figures['kl']:.4f} | {figures['least_kl']:.4f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=MINUTES, help="time limit of this call")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    given = parser.parse_args()
    bench = Bench(Store(BUILD / "cells"), Budget(given.minutes * 60), given.threads)
    of_float = bench.float_result(RESNET20)
    if of_float is None:
        sys.exit("the float model was not measured")
    found = [one for each in settings(given.seeds) for one in measured(each, bench, of_float)]
    ranks = {
        f"w{bits} {preset}": rank_correlation(
            [one for one in found if one.setting == Setting(bits, preset, 1)]
        )
        for bits in UNIFORM
        for preset in PRESETS
        if any(one.setting == Setting(bits, preset, 1) for one in found)
    }
    entries = summary(found)
    document = {
        "float": of_float["top1"],
        "rows": [one.entry for one in found],
        "means": entries,
        "rank_correlation": ranks,
    }
    Path(BUILD / "choose.json").write_text(json.dumps(document, indent=1) + "\n")
    print(as_markdown(entries))
    for name, value in ranks.items():
        print(f"rank correlation of predicted and measured, {name}: {value:.3f}")


if __name__ == "__main__":
    main()
