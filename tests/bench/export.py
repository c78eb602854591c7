"""``make bench-export``: every export of the demo models, read back by a program of others.

Each reader runs in a fresh process and never imports qcompile: onnxruntime, torch alone,
compressed-tensors, gguf. Writes ``build/bench/export.json`` and prints a table.
"""

import argparse
import json
import platform
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import save_file
from torch import Tensor

import qcompile
from qcompile.driver.recipes import recipe_path
from qcompile.driver.run import RunOptions, run_subject
from qcompile.emit.load import assemble
from qcompile.emit.stored_artifact import StoredArtifact, read_artifact
from qcompile.quant.fake_quantize import dequantize_weight
from qcompile.zoo import fashion_mnist
from tests.bench.matrix import ROOT

BUILD = ROOT / "build" / "bench" / "export"
READER = Path(__file__).with_name("read_export.py")
PACKAGES = ("torch", "onnxruntime", "compressed-tensors", "gguf")

WEIGHTS_ONLY = """
policy main {{
  use only for linear and not last(linear)
}}
scheme only {{
  weight {weight}
}}
"""
"""For the formats that hold linear layers alone; the rest stays in float."""


@dataclass(frozen=True, slots=True)
class Case:
    recipe: str
    form: str
    weight: str | None = None
    """Replaces the policy by one of weights alone."""

    @property
    def name(self) -> str:
        return f"{self.recipe}-{self.weight.split()[0]}" if self.weight else self.recipe


CASES = (
    *(Case(f"{model}-{bits}", form) for model in ("resnet20", "vit_small")
      for bits in ("w8a8", "w4a8") for form in ("pt2", "onnx")),
    Case("vit_small-w8a8", "compressed-tensors", "int8 symmetric per_channel"),
    Case("vit_small-w8a8", "compressed-tensors", "uint4 asymmetric per_group(32)"),
    Case("vit_small-w8a8", "gguf", "int8 symmetric per_group(32)"),
    Case("vit_small-w8a8", "gguf", "uint4 asymmetric per_group(32)"),
    Case("vit_small-w8a8", "gguf", "int5 symmetric per_group(32)"),
)  # fmt: skip


def measured(case: Case) -> dict[str, object]:
    artifact = _artifact(case)
    suffix = "" if case.form == "compressed-tensors" else f".{case.form}"
    output = BUILD / f"{case.name}-{case.form}{suffix}"
    _remove(output)
    done = qcompile.export(artifact, case.form, output)
    given = BUILD / "given.safetensors"
    expected = _outputs(artifact) if case.form in {"pt2", "onnx"} else _weights(artifact)
    save_file(expected, given)
    command = [sys.executable, str(READER), case.form, str(output), str(given)]
    read = subprocess.run(command, check=True, capture_output=True, text=True, cwd=BUILD)
    return {
        "case": case.name,
        "format": case.form,
        "bytes": done.bytes,
        "tensor_bytes": done.tensor_bytes,
        **cast("dict[str, object]", json.loads(read.stdout)),
    }


def _artifact(case: Case) -> Path:
    output = BUILD / case.name
    text = recipe_path(case.recipe).read_text()
    if case.weight:
        begin, end = text.index("policy main"), text.index("calibrate")
        own = WEIGHTS_ONLY.format(weight=case.weight)
        text = (text[:begin] + own + text[end:]).partition("expect ")[0]
    BUILD.mkdir(parents=True, exist_ok=True)
    recipe = BUILD / f"{case.name}.qrecipe"
    recipe.write_text(text)
    run_subject(recipe, output, RunOptions(work=BUILD / "runs", replace=True))
    return output


def _outputs(artifact: Path) -> dict[str, Tensor]:
    """The test images that ship with the package, and what ``simulate`` makes of them."""
    images, _ = fashion_mnist.test()
    model = qcompile.load(artifact)
    with torch.no_grad():
        return {"x": images, "y": model(images).contiguous()}


def _weights(artifact: Path) -> dict[str, Tensor]:
    stored = read_artifact(artifact)
    assert isinstance(stored, StoredArtifact), stored
    model = assemble(stored)
    found: dict[str, Tensor] = {}
    for node in model.graph.nodes:
        if node.target is dequantize_weight:
            reader = next(iter(node.users))
            given = [
                model.get_buffer(str(item.target)) if isinstance(item, torch.fx.Node) else item
                for item in node.args
            ]
            bias = str(cast("torch.fx.Node", reader.args[2]).target)
            found[bias.removesuffix("bias") + "weight"] = dequantize_weight(*given)  # pyright: ignore[reportArgumentType]
    return found


def _remove(output: Path) -> None:
    if output.is_dir():
        for file in output.iterdir():
            file.unlink()
        output.rmdir()
    output.unlink(missing_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="these cases; writes no JSON")
    only = parser.parse_args().only
    rows = [measured(case) for case in CASES if only in f"{case.name} {case.form}"]
    machine = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        **{name: version(name) for name in PACKAGES},
    }
    if not only:
        document = {"machine": machine, "rows": rows}
        (BUILD.parent / "export.json").write_text(json.dumps(document, indent=1) + "\n")
    heads = (
        "artifact",
        "format",
        "file",
        "relative difference",
        "fused",
        "top-1 agreement",
        "exact",
    )
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for row in rows:
        agreement = "" if row["agreement"] is None else f"{row['agreement']:.2%}"
        print(
            f"| {row['case']} | {row['format']} | {row['bytes']} | {row['relative']:.1e} "
            f"| {row['relative_fused']:.1e} | {agreement} | {'yes' if row['exact'] else 'no'} |"
        )


if __name__ == "__main__":
    main()
