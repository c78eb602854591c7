"""The single blocks of ``make bench-blocks``, and what is tried on each. Loads no torch."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.matrix import RECIPES

FITTED, HELD_OUT = 512, 256
"""Images: those that a method may look at, and those that judge it."""
PUBLISHED = 20_000
"""Steps of BRECQ and QDrop."""
POLISH = 500
PREFIX = f"tune hybrid {{\n  samples = {FITTED}\n}}"
"""How everything in front of the block is quantized, whatever is tried on the block."""


@dataclass(frozen=True, slots=True)
class HardBlock:
    model: str
    recipe: str
    block: str
    bits: tuple[str, ...]


BLOCKS = (
    HardBlock("EfficientNet-Lite0", "efficientnet_lite0", "blocks.9", ("w2", "w4", "w4a4")),
    HardBlock("ViT-S/14", "vit_s14", "blocks.3", ("w3", "w4a4")),
)


@dataclass(frozen=True, slots=True)
class Method:
    name: str
    preset: str
    settings: tuple[str, ...] = ()
    samples: bool = True
    """The preset looks at samples, and is told to take ``FITTED`` of them."""
    with_act: bool = False
    """Only where activations are quantized."""
    steps: int = 0

    @property
    def tune(self) -> str:
        settings = [f"samples = {FITTED}"] if self.samples else []
        settings += [f"steps = {self.steps}"] if self.steps else []
        settings += self.settings
        return "\n  ".join([f"tune {self.preset} {{", *settings]) + "\n}"

    @property
    def is_long(self) -> bool:
        return self.steps >= PUBLISHED


def _polish(name: str, *settings: str, with_act: bool = False) -> Method:
    """The layer solver, and the gradient on the whole block behind it."""
    shared = ("solver = [optq, cd, gradient]", "partition = block")
    return Method(name, "hybrid", (*shared, *settings), with_act=with_act, steps=POLISH)


METHODS = (
    Method("nearest", "rtn", samples=False),
    Method("nearest, scales and bias fitted", "rtn_gram"),
    Method("optq", "optq"),
    Method("gptaq", "gptaq"),
    Method("hybrid, asymmetric target", "hybrid", ("target = asymmetric",)),
    Method(
        "hybrid, ranges as observed", "hybrid", ("learn = [rounding, scale, bias]",), with_act=True
    ),
    Method("hybrid", "hybrid"),
    _polish("hybrid, then gates", "learn = [rounding, scale, bias]"),
    _polish("hybrid, then weights", "variable = weight", "learn = [rounding, scale, bias]"),
    _polish("hybrid, then all scales", "learn = [scale, bias, act_scale]", with_act=True),
    _polish(
        "hybrid, then gates and activation scales",
        "learn = [rounding, scale, bias, act_scale]",
        with_act=True,
    ),
    _polish(
        "hybrid, then qdrop",
        "learn = [rounding, scale, bias, act_scale]",
        "drop = both",
        with_act=True,
    ),
    Method("brecq", "brecq", steps=POLISH),
    Method("qdrop", "qdrop", with_act=True, steps=POLISH),
    Method("brecq", "brecq", steps=3_000),
    Method("qdrop", "qdrop", with_act=True, steps=3_000),
    Method("brecq", "brecq", steps=PUBLISHED),
    Method("qdrop", "qdrop", with_act=True, steps=PUBLISHED),
)


@dataclass(frozen=True, slots=True)
class Trial:
    block: HardBlock
    bits: str
    method: Method

    @property
    def recipe(self) -> Path:
        return RECIPES / f"{self.block.recipe}-{self.bits}.qrecipe"

    @property
    def label(self) -> str:
        steps = f" {self.method.steps} steps" if self.method.steps else ""
        return f"{self.block.model} {self.block.block} {self.bits} {self.method.name}{steps}"


def trials(*, long: bool) -> Iterator[Trial]:
    """Block by block; ``long``: those of ``PUBLISHED`` steps too, after all others."""
    found = [
        Trial(block, bits, method)
        for block in BLOCKS
        for bits in block.bits
        for method in METHODS
        if ("a" in bits or not method.with_act) and (long or not method.is_long)
    ]
    yield from sorted(found, key=lambda one: one.method.is_long)
