"""The rows of the benchmarks: model x recipe x preset x seed. Loads no torch."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from qcompile.methods.presets import preset as known_preset
from tests.bench import fashion_files, photo_files
from tests.bench.variant import FLIPPED, GRADIENT, SYMMETRIC, preset_name

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "recipes"

BASELINE = "rtn"
"""Rounding to nearest with clipped scales: what every other preset has to beat."""
STRONGER = "rtn_gram"
"""Nearest rounding still, with scales searched under the Gram matrix and biases corrected."""


@dataclass(frozen=True, slots=True)
class HardModel:
    name: str
    recipe: str
    """Name of its recipes, before the bits."""
    factory: str
    test_data: str
    test_images: int
    """The first of the test split; fewer where the data set is not complete."""
    plain_images: int = 0
    """The first of these, whose accuracy is told apart: the other crops need not show the label."""
    data_name: Callable[[], str] = fashion_files.data_name
    """What a row says of its data."""


HARD_MODELS = (
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


RESNET20 = HardModel(
    "ResNet-20",
    "resnet20",
    "tests.bench.fashion:resnet20",
    "tests.bench.fashion:test_resnet20",
    2_000,
    data_name=fashion_files.shipped_name,
)

UNROTATED = HardModel(
    "ViT-S/14 unrotated",
    "vit_s14_unrotated",
    "tests.bench.hard_models:vit",
    "tests.bench.fashion:test_vit",
    2_000,
)
"""What presets reach that were published without rotations."""

BALANCED = HardModel(
    "ViT-S/14 balanced",
    "vit_s14_balanced",
    "tests.bench.hard_models:vit",
    "tests.bench.fashion:test_vit",
    2_000,
)
"""What rotations do for weights, where activations have no need of them."""

PHOTOS = HardModel(
    "EfficientNet-Lite0 ImageNet",
    "efficientnet_lite0_imagenet",
    "tests.bench.hard_models:efficientnet_imagenet",
    "tests.bench.photos:test_photos",
    test_images=500,
    plain_images=20,
    data_name=photo_files.data_name,
)


@dataclass(frozen=True, slots=True)
class Matrix:
    """What is worth a run at which bits, the telling ones first: a stopped bench has those.

    ``brecq@100`` is the preset ``brecq`` with 100 steps.
    """

    name: str
    """Of the results below ``build/bench``."""
    models: tuple[HardModel, ...]
    presets: tuple[tuple[str, tuple[str, ...]], ...]


ACCURACY = Matrix(
    "accuracy",
    HARD_MODELS,
    (
        ("w3", (BASELINE, "hybrid", "optq", "adaround", "brecq")),
        ("w4a4", (BASELINE, "hybrid", "optq", "adaround", "brecq", "qdrop")),
        ("w4", (BASELINE, "hybrid", "optq", "adaround", "brecq")),
        ("w4a8", (BASELINE, "hybrid", "optq", "brecq")),
        ("w8a8", (BASELINE, "hybrid")),
    ),
)
AT_EQUAL_TIME = (
    *("brecq@equal", "qdrop@equal", "adaround@equal", "flexround@equal", "signround@equal"),
    *("brecq_fisher@equal", "pdquant@equal", "genie@equal", "blockap@equal"),
)
"""The time of ``hybrid`` on the same row."""
THOROUGH = f"{GRADIENT}@500"
QUICK = (BASELINE, STRONGER, "hybrid", "optq", "gptaq")
ENGINE = Matrix(
    "engine",
    (
        RESNET20,
        *(replace(model, test_images=2_000) for model in HARD_MODELS),
        UNROTATED,
        BALANCED,
        PHOTOS,
    ),
    (
        ("w2a8", (*QUICK, *AT_EQUAL_TIME, "brecq", "qdrop")),
        ("w3a3", (*QUICK, *AT_EQUAL_TIME, "brecq", "qdrop")),
        ("w2", (*QUICK, FLIPPED, *AT_EQUAL_TIME, THOROUGH)),
        ("w3", (*QUICK, FLIPPED, *AT_EQUAL_TIME, THOROUGH)),
        ("w3mixed", QUICK),
        ("w4", (*QUICK, FLIPPED, SYMMETRIC, *AT_EQUAL_TIME, THOROUGH, "brecq@100", "qdrop@100")),
        ("w4a4", (*QUICK, FLIPPED, SYMMETRIC, *AT_EQUAL_TIME, THOROUGH, "brecq@100", "qdrop@100")),
        ("w4a8", (*QUICK, FLIPPED, SYMMETRIC, *AT_EQUAL_TIME, THOROUGH, "brecq@100", "qdrop@100")),
    ),
)
MATRICES = (ACCURACY, ENGINE)


@dataclass(frozen=True, slots=True)
class Row:
    model: HardModel
    bits: str
    preset: str
    seed: int

    @property
    def recipe(self) -> Path:
        return RECIPES / f"{self.model.recipe}-{self.bits}.qrecipe"

    @property
    def label(self) -> str:
        return f"{self.model.name} {self.bits} {self.preset} seed {self.seed}"


def rows(matrix: Matrix, seeds: int) -> Iterator[Row]:
    """Baselines first, then round by round through the presets; where there is a recipe."""
    found = [
        (rank, seed, place, row)
        for seed in range(1, seeds + 1)
        for place, (bits, presets) in enumerate(matrix.presets)
        for rank, preset in enumerate(presets)
        for model in matrix.models
        if known_preset(preset_name(preset)) is not None
        if (row := Row(model, bits, preset, seed)).recipe.is_file()
    ]
    yield from (row for *_, row in sorted(found, key=lambda item: (item[1], item[0], item[2])))
