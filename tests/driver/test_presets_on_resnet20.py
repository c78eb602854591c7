"""Every preset, from the recipe to the artifact, on ResNet-20 at two bits.

What a preset must do is lower the error on images that it has not seen. Two blocks, sixteen images
and twenty steps are enough for that, without a rate of its own: it is ``travel / steps``, so that
fewer steps are longer.
"""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from torch import Tensor, fx

import qcompile
from qcompile.driver.plan import plan_recipe
from qcompile.driver.run import execute
from qcompile.driver.run_options import RunOptions
from qcompile.methods.presets import DEFAULT_PRESET, PRESETS
from qcompile.zoo.fashion_mnist import test as held_out

RECIPE = """\
qrecipe 1
model "zoo:resnet20"
scheme narrow {{
  weight {weight} per_channel
  act uint8 asymmetric per_tensor observer=minmax
}}
policy main {{ use narrow for conv and "layers.{{0,1}}.*" }}
calibrate {{ data = "zoo:fashion_mnist/calib"; samples = 16; batch = 4; seed = 1 }}
tune {tune}
"""
LAST = "layers.1.relu2"
SHORT = " { steps = 20; batch = 4; precision = fp32 }"
UNSEEN = 32

NEAREST = ("int2 symmetric", DEFAULT_PRESET)
OTHERS = {
    "blockap": ("uint2 asymmetric", ("uint2 asymmetric", DEFAULT_PRESET)),
    "powerquant": ("power3", ("power3 exponent=1", DEFAULT_PRESET)),
    "nupes": ("power3", ("power3", "powerquant")),
}
"""Other weights, and what is nearest rounding on them: Block-AP learns zero points; ``power2`` has
the levels -1, 0 and 1 whatever its exponent is, and nearest rounding on ``power3`` is PowerQuant,
which has to show that it is better than an exponent of 1."""

MOST = {"powerquant": 0.75, "nupes": 0.9}
"""Of the error of nearest rounding; with three bits there is less to gain."""


ON_NORMS = frozenset({"repq"})
"""Are about norms, which this model has none of: see ``test_transforms``."""


@pytest.mark.parametrize(
    "name", [one.preset for one in PRESETS if one.preset not in {DEFAULT_PRESET, *ON_NORMS}]
)
def test_preset_lowers_the_error_of_nearest_rounding_on_images_it_has_not_seen(name):
    weight, nearest = OTHERS.get(name, ("int2 symmetric", NEAREST))
    assert unseen_error(weight, name) < MOST.get(name, 0.6) * unseen_error(*nearest)


@pytest.mark.parametrize("weight", ["codebook2", "power3", "nf4"])
def test_hybrid_lowers_the_error_on_levels_too(weight):
    assert unseen_error(weight, "hybrid") < 0.8 * unseen_error(weight, DEFAULT_PRESET)


def test_a_fitted_scale_beats_the_range_search_and_the_full_range():
    """At two bits the range search, which looks at weights alone, loses to the full range."""
    whole = unseen_error("int2 symmetric observer=minmax", DEFAULT_PRESET)
    searched = unseen_error(*NEAREST)
    assert whole < searched
    assert unseen_error("int2 symmetric", "rtn_gram") < 0.3 * whole


@cache
def unseen_error(weight: str, name: str) -> float:
    """``sum |q - f|^2 / sum |f|^2`` behind the last quantized block, on the test split."""
    preset = next(one for one in PRESETS if one.preset == name)
    tune = name + (SHORT if preset.takes_steps else "")
    with TemporaryDirectory() as folder:
        recipe = Path(folder) / "short.qrecipe"
        recipe.write_text(RECIPE.format(weight=weight, tune=tune))
        planned = plan_recipe(recipe)
        execute(planned, Path(folder) / "out", RunOptions(work=Path(folder) / "state"))
        wanted = behind_the_blocks(planned.bound.graph)
        found = behind_the_blocks(qcompile.load(Path(folder) / "out"))
    return float((found - wanted).square().sum() / wanted.square().sum())


@torch.no_grad()
def behind_the_blocks(network: fx.GraphModule) -> Tensor:
    seen: list[Tensor] = []
    block = network.get_submodule(LAST)
    hook = block.register_forward_hook(lambda module, given, value: seen.append(value))
    network(held_out()[0][:UNSEEN])
    hook.remove()
    return seen[0].double()
