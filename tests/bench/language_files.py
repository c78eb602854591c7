"""``make bench-language``, its second table: SmolLM2 as GGUF files, run by llama.cpp.

Ours beside the rounding that llama.cpp has itself, plain and weighted by the mean squares of what
each matrix reads; all in the same types, Q4_0 and Q8_0 for the table of words, so of one size.
Perplexity and divergence are what llama.cpp computes. Writes ``build/bench/language_files.json``.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from tests.bench.cells import Document, code_version
from tests.bench.language import FOLDER, LENGTH, SOURCES, WINDOWS
from tests.bench.language_rows import measured, options, report
from tests.bench.matrix import ROOT

RECIPE = """qrecipe 1
model "hf:smollm2"
scheme inner {{ weight int4 symmetric per_group(32) observer={observer}; act float }}
scheme table {{ weight int8 symmetric per_group(32); act float }}
policy main {{
  use inner for linear
  use table for embedding or "lm_head"
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
ROUNDINGS = {
    "as it came, Q4_1": "none",
    "Q4_0 of llama.cpp": "plain",
    "Q4_0 of llama.cpp, weighted": "importance",
}
PRESETS = ("rtn", "rtn_gram", "optq", "hybrid")
UNSIGNED = ("rtn", "hybrid")
"""Again with scales that are positive, all of them."""
ALL_SOURCES = (
    *SOURCES,
    "qcompile/interop",
    *("tests/bench/language_files_cell.py", "tests/bench/llama_cpp.py"),
)
HEADER = (
    "| file | seed | size | perplexity | KL to float | same next token as float "
    "| perplexity of the simulation | KL to the simulation | same tokens of the text |",
    "|---|--:|--:|--:|--:|--:|--:|--:|---|",
)


@dataclass(frozen=True, slots=True)
class FileCase:
    name: str
    seed: int
    text: str
    rounding: str = ""

    @property
    def label(self) -> str:
        return f"{self.name} seed {self.seed}" if self.text else self.name


def cases(seeds: int, samples: int, length: int) -> Iterator[FileCase]:
    for name, rounding in ROUNDINGS.items():
        yield FileCase(name, 0, "", rounding)
    for seed in range(1, seeds + 1):
        for preset in PRESETS:
            text = _recipe(preset, samples, length, seed, "signed_mse")
            yield FileCase(f"`{preset}`", seed, text)
        for preset in UNSIGNED:
            text = _recipe(preset, samples, length, seed, "mse")
            yield FileCase(f"`{preset}`, positive scales", seed, text)


def _recipe(preset: str, samples: int, length: int, seed: int, observer: str) -> str:
    return RECIPE.format(
        preset=preset, samples=samples, length=length, seed=seed, observer=observer
    )


def line(case: FileCase, found: Document) -> str:
    number = {name: cast("float", value) for name, value in found.items() if name != "torch"}
    is_ours = "simulated" in number
    cells = (
        case.name,
        str(case.seed) if is_ours else "",
        f"{number['bytes'] / 1e6:.1f} MB",
        f"{number['perplexity']:.2f}",
        f"{number['kl']:.4f}",
        f"{100 * number['agreement']:.1f}",
        f"{number['simulated']:.2f}" if is_ours else "",
        f"{number['kl_to_simulated']:.4f}" if is_ours else "",
        "yes" if number["same_tokens"] else "no",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    given = options(__doc__)

    def ask(case: FileCase) -> tuple[str, Document, Document]:
        request = {
            "folder": str(FOLDER),
            "name": re.sub(r"\W+", "-", f"gguf-{case.label}"),
            "text": case.text,
            "rounding": case.rounding,
            "samples": given.samples,
            "calibrated_length": given.length,
            "length": LENGTH,
            "windows": WINDOWS,
            "threads": given.threads,
        }
        cell = {**request, "kind": "language file", "code": code_version(ROOT, ALL_SOURCES)}
        return "language_files_cell", request, cell

    found, missing = measured(given, cases(given.seeds, given.samples, given.length), ask)
    rows = [{"file": case.name, "seed": case.seed, **one} for case, one in found]
    report("language_files", given, rows, [*HEADER, *(line(*one) for one in found)], missing)


if __name__ == "__main__":
    main()
