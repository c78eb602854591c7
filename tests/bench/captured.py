"""The part of ``make bench-plan`` that captures fifteen models: ``build/bench/captured.json``.

In an environment of its own, with timm, torchvision and a fixed transformers. Finished rows are
kept, so that a second call continues. Loads no torch.
"""

import json
from pathlib import Path
from typing import cast

from tests.bench.cells import Document, Store, code_version
from tests.bench.child import answer

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "bench"
TABLE = BUILD / "captured.json"
MODELS = (
    "resnet20",
    "torchvision-resnet18",
    "timm-mobilenetv2",
    "timm-vit-tiny",
    "timm-convnext-atto",
    "timm-swin-tiny",
    "nn-transformer-encoder",
    "hf-bert",
    "hf-llama",
    "hf-qwen3",
    "hf-gpt2",
    "hf-vit",
    "hf-whisper",
    "hf-t5",
    "hf-mixtral",
)
SOURCES = (
    "qcompile",
    "tests/bench/captured_cell.py",
    "tests/bench/captured_models.py",
    "tests/capture/traced_models.py",
)


def main() -> None:
    store = Store(BUILD / "captured-cells")
    version = code_version(ROOT, SOURCES)
    rows = [_row(store, name, version) for name in MODELS]
    TABLE.write_text(json.dumps(rows, indent=2) + "\n")


def captured_rows() -> list[Document]:
    """The rows of the last call; none before the first."""
    return cast("list[Document]", json.loads(TABLE.read_text())) if TABLE.is_file() else []


def _row(store: Store, name: str, version: str) -> Document:
    cell = {"kind": "captured", "model": name, "code": version}
    found = store.find(cell)
    if found is None:
        found = answer("captured_cell", {"model": name}, quiet=True)
        store.save(cell, found)
    free = len(cast("list[str]", found["free"]))
    print(
        f"{name:<24} {found['nodes']:>5} nodes  capture {found['capture_s']:>5} s  "
        f"analysis {found['analysis_s']:>5} s  peak {found['peak_rss_mb']:>5} MB  "
        f"{free} free sizes  {'equal' if found['equal'] else 'DIFFERS'}",
        flush=True,
    )
    for text in cast("list[str]", found["specialisations"]):
        print(f"    specialised to {text}")
    return found


if __name__ == "__main__":
    main()
