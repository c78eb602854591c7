"""One cell of the kernel benchmark: a model on a target, timed beside its float forms.

Reads the request as JSON from standard input, writes the result as JSON to standard output. The
forms are timed in turn, so that a slow moment of the machine hits all of them.
"""

import copy
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeVar, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

import qcompile
from qcompile.compat.cpu_features import multiplies_bf16, multiplies_bytes
from qcompile.diagnostics.source import Source
from qcompile.driver.front import check_source
from qcompile.driver.load import lowering, plan_of
from qcompile.emit.load import assemble
from qcompile.emit.lower.difference import relative
from qcompile.emit.stored_artifact import StoredArtifact, read_artifact
from qcompile.targets.report import LoweringReport
from tests.bench.cells import Json
from tests.bench.kernel_ceiling import products
from tests.bench.kernel_models import MODELS, BenchModel
from tests.bench.kernel_peers import Peer, Run, peers

PACKAGES = ("torch", "torchao", "onnxruntime", "llvmlite")
SAMPLES = 8

SCHEMES = {
    "x86-int8": "weight int8 symmetric per_channel; act uint8 asymmetric per_tensor",
    "cpu-int4": "weight int4 symmetric per_group(64)",
    "cpu-int8-weight-only": "weight int8 symmetric per_channel",
}
RECIPE = """qrecipe 1
scheme s {{
  {scheme}
}}
{shortcut}policy main {{
  use s for conv or linear
{use}}}
{calibrate}
tune rtn
"""
SHORTCUT = """scheme shortcut {{
  {slot} uint8 asymmetric per_tensor
}}
"""
CALIBRATE = """calibrate {{
  data = "given.as:tensor"
  samples = {samples}
  batch = {samples}
  seed = 1
}}"""


@dataclass(frozen=True, slots=True)
class Request:
    model: str
    target: str
    threads: int
    batches: list[int]
    peer_batches: list[int]
    """Where the peers are asked too: compiling takes them minutes."""
    runs: int


def main() -> None:
    request = Request(**json.load(sys.stdin))
    torch.set_num_threads(request.threads)
    with redirect_stdout(sys.stderr):  # peers print
        rows = _cell(request)
    json.dump({"rows": rows, "machine": machine()}, sys.stdout)


def machine() -> dict[str, Json]:
    return {
        **{name: _version(name) for name in PACKAGES},
        "vnni": multiplies_bytes(),
        "bf16_instructions": multiplies_bf16(),
        "capability": torch.backends.cpu.get_cpu_capability(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cell(request: Request) -> list[dict[str, Json]]:
    model, target = MODELS[request.model], request.target
    net, samples = model.make(), model.batch(SAMPLES)
    with tempfile.TemporaryDirectory() as folder:
        artifact = Path(folder) / "artifact"
        simulation = quantized(model, net, target, artifact)
        start = time.perf_counter()
        lowered = lowering(artifact, target, check=False)
        load_seconds = time.perf_counter() - start
        checked = lowering(artifact, target).report
        share = _int_mac_share(checked, artifact, model.batch(1))
    shared: dict[str, Json] = {
        "int_mac_share": share,
        "layer_rel_err": checked.layer_difference,
        "load_s": load_seconds,
    }
    rows: list[dict[str, Json]] = []
    for size in request.batches:
        x = model.batch(size, seed=size)
        others: list[Peer] = []
        if size in request.peer_batches:
            with torch.no_grad():
                others = list(peers(target, _last(net, x), _last(x, x), _last(samples, x)))
        row = _row(net, simulation, lowered.module, x, request.runs, others)
        rows.append({"batch": size, **row, **shared})
    return rows


def recipe_text(scheme: str, samples: int, shortcut: str = "") -> str:
    return RECIPE.format(
        scheme=scheme.replace("; ", "\n  "),
        shortcut=SHORTCUT.format(slot=shortcut) if shortcut else "",
        use="  use shortcut for add\n" if shortcut else "",
        calibrate=CALIBRATE.format(samples=samples) if "act" in scheme else "",
    )


def quantized(model: BenchModel, net: nn.Module, target: str, artifact: Path) -> fx.GraphModule:
    """Write ``net`` in the scheme of the target; give what simulates it."""
    text = recipe_text(SCHEMES[target], SAMPLES, model.shortcut)
    recipe = check_source(Source("kernels.qrecipe", text)).recipe
    assert recipe is not None
    data = model.batch(SAMPLES) if recipe.calibration is not None else None
    bound = qcompile.bind(recipe, net, (model.batch(2),))
    return qcompile.run(qcompile.plan(bound, data), artifact, bound=bound, data=data)


_Either = TypeVar("_Either", Tensor, nn.Module)


def _last(value: _Either, x: Tensor) -> _Either:
    """Images with their channels last, and the weights for them; rows as they are."""
    return copy.deepcopy(value).to(memory_format=torch.channels_last) if x.dim() == 4 else value


def _row(
    net: nn.Module,
    reference: fx.GraphModule,
    lowered: fx.GraphModule,
    x: Tensor,
    runs: int,
    others: list[Peer],
) -> dict[str, Json]:
    last, images = _last(net, x), _last(x, x)
    narrow, narrow_images = copy.deepcopy(last).to(torch.bfloat16), images.to(torch.bfloat16)
    forms: dict[str, Run] = {
        "float": lambda: net(x),
        "float last": lambda: last(images),
        "kernels": lambda: lowered(x),
        "kernels last": lambda: lowered(images),
        "bf16": lambda: narrow(narrow_images),
        **{peer.name: peer.run for peer in others if peer.run is not None},
    }
    chain = products(lowered, images)
    if chain is not None:
        forms["products"] = chain
    with torch.no_grad():
        expected = reference(x)
        error, own = relative(lowered(x), expected), relative(reference(images), expected)
        times = medians(forms, runs)
    of_float = min(times["float"], times["float last"])
    ours = min(times["kernels"], times["kernels last"])
    return {
        "ms": ours,
        "float_ms": of_float,
        "bf16_ms": times["bf16"],
        "speedup": of_float / ours,
        "fastest": min((ours, "kernels"), (of_float, "float"), (times["bf16"], "bf16"))[1],
        "products_ms": times.get("products"),
        "ceiling": of_float / times["products"] if chain is not None else None,
        "max_rel_err": error,
        "simulation_rel_err": own,
        "peers": {
            peer.name: {"ms": times[peer.name], "build_s": peer.build_seconds}
            if peer.run is not None
            else {"failed": peer.because}
            for peer in others
        },
    }


def medians(forms: Mapping[str, Run], runs: int) -> dict[str, float]:
    """Milliseconds of each, interleaved."""
    found: dict[str, list[float]] = {name: [] for name in forms}
    for run in forms.values():
        run()
    for _ in range(runs):
        for name, run in forms.items():
            start = time.perf_counter()
            run()
            found[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in found.items()}


class _Macs(fx.Interpreter):
    """Count the products of linear layers and convolutions, by node, in the reference."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.macs: dict[str, int] = {}

    def run_node(self, n: fx.Node) -> object:
        made = super().run_node(n)
        weight = self._weight(n)
        if weight is not None and isinstance(made, Tensor):
            self.macs[n.name] = made.numel() * weight[0].numel()
        return made

    def _weight(self, node: fx.Node) -> Tensor | None:
        if node.target in (functional.linear, functional.conv2d):
            return cast("Tensor", self.env[cast("fx.Node", node.args[1])])
        leaf = self.fetch_attr(str(node.target)) if node.op == "call_module" else None
        return leaf.weight if isinstance(leaf, nn.Linear | nn.Conv2d) else None


def _int_mac_share(report: LoweringReport, artifact: Path, x: Tensor) -> float:
    stored = read_artifact(artifact)
    assert isinstance(stored, StoredArtifact), stored
    counter = _Macs(assemble(stored))
    with torch.no_grad():
        counter.run(x)
    nodes = {site.key: site.node for site in plan_of(artifact).core.sites}
    kernels = {nodes[layer.key] for layer in report.layers if layer.kernel is not None}
    inside = sum(count for name, count in counter.macs.items() if name in kernels)
    return inside / sum(counter.macs.values())


if __name__ == "__main__":
    main()
