"""``make bench-export``: exports of demo and hard models, read back by a program of others.

Each reader runs in a fresh process and never imports qcompile: onnxruntime, torch alone,
compressed-tensors, gguf. Writes ``build/bench/export.json`` and prints two tables: the exports, and
what the artifacts take on disk. Finished cases are kept: call it again to continue.
"""

import argparse
import json
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file
from torch import Tensor

import qcompile
from qcompile.driver.load import plan_of
from qcompile.driver.recipes import recipe_path
from qcompile.driver.run import run_subject
from qcompile.driver.run_options import RunOptions
from qcompile.emit.load import assemble
from qcompile.emit.lower.difference import relative
from qcompile.emit.stored_artifact import StoredArtifact, read_artifact
from qcompile.quant.fake_quantize import dequantize_weight, fake_quantize
from qcompile.zoo import fashion_mnist
from tests.bench.cells import Budget, Document, Json, Store, code_of_process
from tests.bench.fashion import Labelled
from tests.bench.matrix import ROOT

BUILD = ROOT / "build" / "bench" / "export"
CELLS = ROOT / "build" / "bench" / "cells"
ZOO = "zoo"
MINUTES = 60
HEADER_LENGTH = 8
"""Bytes in front of a safetensors file: the length of its header."""
READER = Path(__file__).with_name("read_export.py")
PACKAGES = ("torch", "onnxruntime", "compressed-tensors", "gguf")
SOURCES = (
    *("qcompile/capture", "qcompile/emit", "qcompile/interop", "qcompile/passes", "qcompile/quant"),
    *("tests/bench/export.py", "tests/bench/read_export.py", "tests/bench/hard_models.py"),
)

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
    images: str = ZOO
    """Or a data set of labelled images, of which the first are taken."""

    @property
    def name(self) -> str:
        return f"{self.recipe}-{self.weight.split()[0]}" if self.weight else self.recipe


HARD_IMAGES = 500
BATCH = 100
FEW = 8
"""Images of which the values of all layers are compared."""
CASES = (
    *(Case(f"{model}-{bits}", form) for model in ("resnet20", "vit_small")
      for bits in ("w8a8", "w4a8") for form in ("pt2", "onnx")),
    Case("vit_small-w8a8", "compressed-tensors", "int8 symmetric per_channel"),
    Case("vit_small-w8a8", "compressed-tensors", "uint4 asymmetric per_group(32)"),
    Case("vit_small-w8a8", "gguf", "int8 symmetric per_group(32)"),
    Case("vit_small-w8a8", "gguf", "uint4 asymmetric per_group(32)"),
    Case("vit_small-w8a8", "gguf", "int5 symmetric per_group(32)"),
    Case("efficientnet_lite0-w8a8", "pt2", images="tests.bench.fashion:test_eff"),
    Case("efficientnet_lite0-w8a8", "onnx", images="tests.bench.fashion:test_eff"),
    Case("vit_s14-w8a8", "pt2", images="tests.bench.fashion:test_vit"),
    Case("vit_s14-w8a8", "onnx", images="tests.bench.fashion:test_vit"),
    Case("vit_s14-w4", "pt2", images="tests.bench.fashion:test_vit"),
    Case("vit_s14-w4", "onnx", images="tests.bench.fashion:test_vit"),
    Case("vit_s14-w4", "compressed-tensors", "uint4 asymmetric per_group(64)"),
    Case("vit_s14-w4", "gguf", "uint4 asymmetric per_group(32)"),
)  # fmt: skip


def measured(case: Case) -> dict[str, Json]:
    artifact = _artifact(case)
    suffix = "" if case.form == "compressed-tensors" else f".{case.form}"
    output = BUILD / f"{case.name}-{case.form}{suffix}"
    _remove(output)
    done = qcompile.export(artifact, case.form, output)
    given = BUILD / "given.safetensors"
    own: tuple[float, float] | None = None
    if case.form in {"pt2", "onnx"}:
        expected, own = _outputs(artifact, case)
    else:
        expected = _weights(artifact)
    save_file(expected, given)
    # -P: else a module of this folder stands in for a package of its name, such as `kernels`
    command = [sys.executable, "-P", str(READER), case.form, str(output), str(given)]
    read = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=BUILD)
    core = plan_of(artifact).core
    return {
        "case": case.name,
        "format": case.form,
        "bytes": done.bytes,
        "tensor_bytes": done.tensor_bytes,
        "artifact_bytes": sum(file.stat().st_size for file in artifact.rglob("*")),
        "artifact_tensor_bytes": tensor_bytes(artifact),
        "forecast_bytes": core.bytes_after,
        "float_bytes": core.bytes_before,
        "simulation_relative": own and own[0],
        "simulation_agreement": own and own[1],
        **cast("dict[str, Json]", json.loads(read.stdout)),
    }


def tensor_bytes(artifact: Path) -> int:
    """Of the tensors alone, without the header of the file."""
    file = artifact / "model.safetensors"
    with file.open("rb") as opened:
        header = int.from_bytes(opened.read(HEADER_LENGTH), "little")
    return file.stat().st_size - HEADER_LENGTH - header


def _artifact(case: Case) -> Path:
    """Made anew for each case: the code may have changed."""
    output = BUILD / case.name
    path = recipe_path(case.recipe)
    text = path.read_text()
    if case.weight:
        begin, end = text.index("policy main"), text.index("calibrate")
        own = WEIGHTS_ONLY.format(weight=case.weight)
        text = (text[:begin] + own + text[end:]).partition("expect ")[0]
    BUILD.mkdir(parents=True, exist_ok=True)
    recipe = BUILD / f"{case.name}.qrecipe"
    recipe.write_text(text)
    run_subject(recipe, output, RunOptions(work=BUILD / "runs", replace=True))
    return output


def _outputs(artifact: Path, case: Case) -> tuple[dict[str, Tensor], tuple[float, float]]:
    """Test images and what ``simulate`` makes of them; how it differs in another memory layout.

    For ONNX the values behind the quantizers of the float reference, too, of the first images.
    """
    images = fashion_mnist.test()[0] if case.images == ZOO else _first_images(case.images)
    model = qcompile.load(artifact, "simulate")
    with torch.no_grad():
        made = torch.cat([model(part) for part in images.split(BATCH)]).contiguous()
        turned = images.to(memory_format=torch.channels_last)
        again = torch.cat([model(part) for part in turned.split(BATCH)])
    same = (again.argmax(1) == made.argmax(1)).double().mean().item()
    found = {"x": images, "y": made}
    if case.form == "onnx":
        few = images[:FEW].clone()
        seen = _Quantized(_reference(artifact))
        with torch.no_grad():
            found |= {"few": few, "few_y": cast("Tensor", seen.run(few)).contiguous()}
        found |= {f"at:{name}": value.contiguous() for name, value in seen.values.items()}
    return found, (relative(again, made), same)


class _Quantized(torch.fx.Interpreter):
    """Keeps what every quantizer with a static range makes."""

    def __init__(self, module: torch.fx.GraphModule) -> None:
        super().__init__(module)
        self.values: dict[str, Tensor] = {}

    def run_node(self, n: torch.fx.Node) -> object:
        made = super().run_node(n)
        if n.target is fake_quantize:
            self.values[n.name] = cast("Tensor", made).clone()
        return made


def _first_images(reference: str) -> Tensor:
    module, _, name = reference.partition(":")
    labelled = cast("Labelled", getattr(import_module(module), name)())
    return torch.stack([labelled[number][0] for number in range(HARD_IMAGES)])


def _reference(artifact: Path) -> torch.fx.GraphModule:
    stored = read_artifact(artifact)
    assert isinstance(stored, StoredArtifact), stored
    return assemble(stored)


def _weights(artifact: Path) -> dict[str, Tensor]:
    model = _reference(artifact)
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


def result(case: Case, store: Store, budget: Budget) -> Document | None:
    """``None`` when the time is up."""
    content = {
        "kind": "export",
        **asdict(case),
        "recipe_text": recipe_path(case.recipe).read_text(),
        "packages": {name: version(name) for name in PACKAGES},
        "code": code_of_process(ROOT, SOURCES),
    }
    found = store.find(content)
    if found is not None or budget.is_spent:
        return found
    made = measured(case)
    store.save(content, made)
    print(f"{case.name} {case.form}: done", file=sys.stderr)
    return made


def table(rows: Sequence[Document]) -> str:
    heads = (
        *("artifact", "format", "file", "equal bits", "relative difference", "top-1 agreement"),
        *("fused", "top-1", "fused, inputs in float", "top-1", "the simulation itself", "top-1"),
    )
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for row in rows:
        agrees, fused, in_float, own = (
            "" if row[name] is None else f"{row[name]:.2%}"
            for name in (
                *("agreement", "agreement_fused", "agreement_in_float", "simulation_agreement"),
            )
        )
        itself = "" if row["simulation_relative"] is None else f"{row['simulation_relative']:.1e}"
        with_fusions = (
            (f"{row['relative_fused']:.1e}", fused, f"{row['relative_in_float']:.1e}", in_float)
            if row["by_layer"]
            else ("",) * 4
        )
        shown = (
            *(row["case"], row["format"], row["bytes"], "yes" if row["exact"] else "no"),
            *(f"{row['relative']:.1e}", agrees, *with_fusions, itself, own),
        )
        lines.append(f"| {' | '.join(map(str, shown))} |")
    return "\n".join(lines)


def layer_table(rows: Sequence[Document]) -> str:
    """ONNX, each layer on the codes of the simulation: as written, and with fused kernels."""
    heads = ("codes that differ", "in the worst one", "by", "output", "s")
    shown = ("artifact", "quantizers", *heads, *(f"fused: {head}" for head in heads))
    lines = [f"| {' | '.join(shown)} |", f"|{'---|' * len(shown)}"]
    for row in rows:
        if (found := cast("dict[str, Any]", row["by_layer"])) is None:
            continue
        line = [str(row["case"]), str(found["layers"])]
        for place in range(2):
            shares = (f"{found[name][place]:.1e}" for name in ("off", "worst"))
            last = (f"{found['last'][place]:.1e}", f"{found['seconds'][place]:.1f}")
            line += [*shares, str(found["most"][place]), *last]
        lines.append(f"| {' | '.join(line)} |")
    return "\n".join(lines)


def disk_table(rows: Sequence[Document]) -> str:
    """What each artifact takes, all files included, beside its tensors in float."""
    heads = ("artifact", "float tensors", "tensors", "forecast", "on disk", "of float")
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for row in {str(row["case"]): row for row in rows}.values():
        share = cast("int", row["artifact_bytes"]) / cast("int", row["float_bytes"])
        sizes = (row["float_bytes"], row["artifact_tensor_bytes"], row["forecast_bytes"])
        shown = " | ".join(str(size) for size in (*sizes, row["artifact_bytes"]))
        lines.append(f"| {row['case']} | {shown} | {share:.4f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="these cases; writes no JSON")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="time limit of this call")
    parser.add_argument("--full", action="store_true", help="no time limit")
    given = parser.parse_args()
    budget, store = Budget(None if given.full else given.minutes * 60), Store(CELLS)
    wanted = [case for case in CASES if given.only in f"{case.name} {case.form}"]
    found = [result(case, store, budget) for case in wanted]
    rows = [row for row in found if row is not None]
    machine = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        **{name: version(name) for name in PACKAGES},
    }
    if not given.only:
        document = {"machine": machine, "rows": rows}
        (BUILD.parent / "export.json").write_text(json.dumps(document, indent=1) + "\n")
    print(f"{table(rows)}\n\n{layer_table(rows)}\n\n{disk_table(rows)}\n\n{json.dumps(machine)}")
    if len(rows) < len(wanted):
        print(f"{len(wanted) - len(rows)} cases left: call it again", file=sys.stderr)


if __name__ == "__main__":
    main()
