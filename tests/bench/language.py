"""``make bench-language``: what presets keep of a language model, SmolLM2-135M on Wikipedia.

Prints perplexity, divergence and agreement on articles that no calibration saw, and writes
``build/bench/language.json``. Finished cells are kept. Loads no torch.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from tests.bench.accuracy import BUILD, COMPILER_SOURCES
from tests.bench.cells import Document, code_of_process
from tests.bench.language_rows import measured, options, report
from tests.bench.matrix import ROOT

FOLDER = BUILD / "smollm2"
SOURCES = (
    *COMPILER_SOURCES,
    "qcompile/methods",
    *("tests/bench/smollm2.py", "tests/bench/wiki_text.py", "tests/bench/language_cell.py"),
)
PRESETS = ("rtn", "rtn_gram", "optq", "gptaq", "hybrid", "hybrid { target = symmetric }")
"""As `tune` takes them."""
FOUR = "weight int4 asymmetric per_group(64); act int4 asymmetric per_token"
SCHEMES = {
    "w4g64": ("weight int4 asymmetric per_group(64)", ""),
    "w3g64": ("weight int3 asymmetric per_group(64)", ""),
    "w8a8": ("weight int8 per_channel; act int8 per_token", ""),
    "w4a8": ("weight int4 asymmetric per_group(64); act int8 per_token", ""),
    "w4a4": (FOUR, ""),
    "w4a4 rotated": (FOUR, "prepare rotate\n"),
    "w4a4 balanced": (FOUR, "prepare rotate { balance = true }\n"),
    "w4a4 clipped": (f"{FOUR} observer=clip(0.85)", "prepare rotate { balance = true }\n"),
}
"""The scheme of the linear layers, and what is done to the model first."""
KEYS = {
    "kv8": "kv int8 asymmetric per_token",
    "kv6": "kv int6 asymmetric per_token",
    "kv4": "kv int4 asymmetric per_token",
    "kv4 clipped": "kv int4 asymmetric per_token observer=clip(0.9)",
    "kv3": "kv int3 asymmetric per_token",
}
"""The scheme of the attentions; nothing else is quantized, and nothing is to be fitted."""
LENGTH, WINDOWS = 512, 16
"""Of the test, in tokens."""
RECIPE = """qrecipe 1
model "hf:smollm2"
scheme inner {{ {scheme} }}
{prepare}policy main {{
{rules}
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
        scheme, prepare = SCHEMES.get(self.scheme) or (KEYS[self.scheme], "")
        linear = '  use inner for linear\n  skip "lm_head"'
        return RECIPE.format(
            scheme=scheme,
            prepare=prepare,
            rules=linear if self.scheme in SCHEMES else "  use inner for attention",
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
    yield from (Case(scheme, "rtn", 1) for scheme in KEYS)


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


def main() -> None:
    given = options(__doc__)

    def ask(case: Case) -> tuple[str, Document, Document]:
        text = case.text(given.samples, given.length)
        cell = {
            "kind": "language",
            "recipe": text,
            "windows": [LENGTH, WINDOWS],
            "code": code_of_process(ROOT, SOURCES),
        }
        request = {
            "folder": str(FOLDER),
            "name": re.sub(r"\W+", "-", case.label),
            "text": text,
            "length": LENGTH,
            "windows": WINDOWS,
            "threads": given.threads,
        }
        return "language_cell", request, cell

    found, missing = measured(given, cases(given.seeds), ask)
    rows = [{"scheme": c.scheme, "preset": c.preset, "seed": c.seed, **one} for c, one in found]
    report("language", given, rows, [*HEADER, *(line(*one) for one in found)], missing)


if __name__ == "__main__":
    main()
