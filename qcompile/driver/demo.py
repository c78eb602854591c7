"""The main job on models and data that ship with the package, measured from reloaded artifacts."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qcompile.driver.recipes import recipe_path
from qcompile.driver.run import run_subject
from qcompile.driver.run_options import RunOptions

DEMO = (
    (
        "ResNet-20",
        (
            *("resnet20-w8a8", "resnet20-w4a8"),
            *("resnet20-w2a8", "resnet20-w2a8-brecq", "resnet20-w2a8-hybrid"),
            *("resnet20-w3a3", "resnet20-w3a3-hybrid"),
        ),
    ),
    (
        "ViT (small)",
        ("vit_small-w8a8", "vit_small-w4a8", "vit_small-w2a8", "vit_small-w2a8-hybrid"),
    ),
)
"""Model, and the packaged recipes that are run for it."""


@dataclass(frozen=True, slots=True)
class Row:
    model: str
    recipe: str
    float_top1: float
    top1: float
    agreement: float
    samples: int
    bytes_before: int
    bytes_after: int
    seconds: float


def demo(output: Path, listener: Callable[[Row], None]) -> list[Row]:
    """Run every recipe of ``DEMO`` into ``output``; ``listener`` gets each row as it is ready."""
    rows: list[Row] = []
    for model, recipes in DEMO:
        for name in recipes:
            row = _one(model, name, output / name)
            listener(row)
            rows.append(row)
    return rows


def _one(model: str, recipe: str, output: Path) -> Row:
    options = RunOptions(work=output.parent / ".runs", replace=True)
    done = run_subject(recipe_path(recipe), output, options)
    measured = {item["metric"]: item for item in _measured_elsewhere(output)}
    core = done.plan.core
    return Row(
        model=model,
        recipe=recipe,
        float_top1=measured["top1"]["reference_value"],
        top1=measured["top1"]["value"],
        agreement=measured["agreement"]["value"],
        samples=measured["top1"]["samples"],
        bytes_before=core.bytes_before,
        bytes_after=core.bytes_after,
        seconds=done.seconds,
    )


def _measured_elsewhere(artifact: Path) -> list[dict[str, Any]]:
    """By ``qcompile eval`` in a new process, which has the files and nothing else."""
    command = [sys.executable, "-m", "qcompile", "eval", str(artifact), "--float", "--json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)["results"]
