"""A shipped recipe with another preset or seed in it. Loads no torch."""

import re
from dataclasses import dataclass
from pathlib import Path

from qcompile.diagnostics.failure import CompileError
from qcompile.diagnostics.source import Source
from qcompile.driver.front import check_source
from qcompile.policy.recipe import Recipe

TUNE = re.compile(r"^tune \w+$", re.MULTILINE)
GRADIENT = "hybrid+gradient"
"""The layer solver, and the gradient on whole blocks behind it: ranges of activations with it."""
PARTS = (
    "solver = [optq, cd, gradient]",
    "partition = block",
    "learn = [rounding, scale, bias, act_scale]",
)
SYMMETRIC = "hybrid+symmetric"
"""The layer solver fitted to ``W q``, not to the float output: for few different images."""
FLIPPED = "hybrid+flipped"
"""Mirror images beside the images: twice the rows, and twice the time to look at them."""
SETTINGS = {GRADIENT: PARTS, SYMMETRIC: ("target = symmetric",)}
SEED = re.compile(r"^(\s*seed\s*=\s*)\d+$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Variant:
    """``text`` under the name of the file it was made from, where its references start."""

    path: Path
    text: str

    def recipe(self) -> Recipe:
        checked = check_source(Source(str(self.path), self.text))
        if checked.recipe is None:
            raise CompileError(list(checked.diagnostics))
        return checked.recipe


def preset_name(preset: str) -> str:
    """``brecq`` of ``brecq@100``, ``hybrid`` of ``hybrid+gradient@500``."""
    return preset.partition("@")[0].partition("+")[0]


def variant(path: Path, preset: str, seed: int) -> Variant:
    """The recipe tuned by ``preset``; ``seed`` chooses the samples and seeds the run.

    ``brecq@100`` takes 100 steps. How many ``brecq@equal`` takes is the caller's to find out.
    """
    name, _, steps = preset.partition("@")
    settings = [*SETTINGS.get(name, ()), *([f"steps = {steps}"] if steps else ())]
    tune = "\n  ".join([f"tune {preset_name(preset)} {{", *settings]) + "\n}"
    tune = tune if settings else f"tune {preset_name(preset)}"
    text = _once(TUNE, tune, path.read_text(), path)
    if name == FLIPPED:
        text = _once(SEED, r"\g<0>\n  flip = horizontal", text, path)
    return Variant(path, _once(SEED, rf"\g<1>{seed}", text, path))


def _once(pattern: re.Pattern[str], by: str, text: str, path: Path) -> str:
    changed, count = pattern.subn(by, text)
    if count != 1:
        raise ValueError(f"{path.name}: {count} lines like `{pattern.pattern}`, not one")
    return changed
