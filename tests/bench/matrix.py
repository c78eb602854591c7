"""The rows of the accuracy benchmark: model x recipe x preset x seed. Loads no torch."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from qcompile.methods.presets import preset as known_preset

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "recipes"

Bits: TypeAlias = Literal["w8a8", "w4a8", "w4a4", "w4", "w3"]

BASELINE = "rtn"
"""Rounding to nearest with clipped scales: what every other preset has to beat."""

PRESETS: tuple[tuple[Bits, tuple[str, ...]], ...] = (
    ("w3", (BASELINE, "hybrid", "optq", "adaround", "brecq")),
    ("w4a4", (BASELINE, "hybrid", "optq", "adaround", "brecq", "qdrop")),
    ("w4", (BASELINE, "hybrid", "optq", "adaround", "brecq")),
    ("w4a8", (BASELINE, "hybrid", "optq", "brecq")),
    ("w8a8", (BASELINE, "hybrid")),
)
"""What is worth a run at which bits, the telling ones first: a bench that is stopped has those."""


@dataclass(frozen=True, slots=True)
class HardModel:
    name: str
    recipe: str
    """Name of its recipes, before the bits."""
    factory: str
    test_data: str
    test_images: int
    """The first of the test split; fewer where the data set is not complete."""


MODELS = (
    HardModel(
        "EfficientNet-Lite0",
        "efficientnet_lite0",
        "tests.bench.hard_models:efficientnet",
        "tests.bench.fashion:test_eff",
        10_000,
    ),
    HardModel(
        "ViT-S/14",
        "vit_s14",
        "tests.bench.hard_models:vit",
        "tests.bench.fashion:test_vit",
        2_000,
    ),
)


@dataclass(frozen=True, slots=True)
class Row:
    model: HardModel
    bits: Bits
    preset: str
    seed: int

    @property
    def recipe(self) -> Path:
        return RECIPES / f"{self.model.recipe}-{self.bits}.qrecipe"

    @property
    def label(self) -> str:
        return f"{self.model.name} {self.bits} {self.preset} seed {self.seed}"


def rows(seeds: int) -> Iterator[Row]:
    """Baselines first, then round by round through the presets."""
    found = [
        (rank, seed, place, Row(model, bits, preset, seed))
        for seed in range(1, seeds + 1)
        for place, (bits, presets) in enumerate(PRESETS)
        for rank, preset in enumerate(presets)
        for model in MODELS
        if known_preset(preset) is not None
    ]
    yield from (row for *_, row in sorted(found, key=lambda item: (item[1], item[0], item[2])))
