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
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

import qcompile
from qcompile.compat.cpu_features import multiplies_bf16, multiplies_bytes
from qcompile.diagnostics.source import Source
from qcompile.driver.front import check_source
from qcompile.driver.load import lowering, plan_of
from qcompile.emit.lower.difference import relative
from qcompile.targets.report import LoweringReport
from tests.bench.cells import Json
from tests.bench.kernel_models import MODELS

SCHEMES = {
    "x86-int8": "weight int8 symmetric per_channel; act uint8 asymmetric per_tensor",
    "cpu-int4": "weight int4 symmetric per_group(64)",
    "cpu-int8-weight-only": "weight int8 symmetric per_channel",
}
RECIPE = """qrecipe 1
scheme s {{
  {scheme}
}}
policy main {{
  use s for conv or linear
}}
{calibrate}
tune rtn
"""
CALIBRATE = """calibrate {
  data = "given.as:tensor"
  samples = 8
  batch = 8
  seed = 1
}"""
Run = Callable[[], object]


def main() -> None:
    request = cast("dict[str, Json]", json.load(sys.stdin))
    torch.set_num_threads(cast("int", request["threads"]))
    target, name = str(request["target"]), str(request["model"])
    rows = _cell(name, target, cast("list[int]", request["batches"]), cast("int", request["runs"]))
    json.dump({"rows": rows, "machine": machine()}, sys.stdout)


def machine() -> dict[str, Json]:
    return {
        "torch": str(torch.__version__),
        "vnni": multiplies_bytes(),
        "bf16_instructions": multiplies_bf16(),
        "capability": torch.backends.cpu.get_cpu_capability(),
    }


def _cell(name: str, target: str, batches: list[int], runs: int) -> list[dict[str, Json]]:
    model = MODELS[name]
    net = model.make()
    scheme = SCHEMES[target]
    calibrate = CALIBRATE if "act" in scheme else ""
    text = RECIPE.format(scheme=scheme.replace("; ", "\n  "), calibrate=calibrate)
    recipe = check_source(Source("kernels.qrecipe", text)).recipe
    assert recipe is not None
    data = model.batch(8) if calibrate else None
    with tempfile.TemporaryDirectory() as folder:
        bound = qcompile.bind(recipe, net, (model.batch(2),))
        artifact = Path(folder) / "artifact"
        reference = qcompile.run(qcompile.plan(bound, data), artifact, bound=bound, data=data)
        lowered = lowering(artifact, target)
        share = _int_mac_share(reference, lowered.report, artifact, model.batch(1))
    return [
        _row(net, reference, lowered.module, model.batch(size, seed=size), runs)
        | {"batch": size, "int_mac_share": share, "lowered_difference": lowered.report.difference}
        for size in batches
    ]


def _row(
    net: nn.Module, reference: fx.GraphModule, lowered: fx.GraphModule, x: Tensor, runs: int
) -> dict[str, Json]:
    last = copy.deepcopy(net)
    forms: dict[str, Run] = {"float": lambda: net(x), "kernels": lambda: lowered(x)}
    if x.dim() == 4:
        last = last.to(memory_format=torch.channels_last)
        images = x.contiguous(memory_format=torch.channels_last)
        forms["channels_last"] = lambda: last(images)
    narrow, narrow_x = copy.deepcopy(last).to(torch.bfloat16), x.to(torch.bfloat16)
    forms["bf16"] = lambda: narrow(narrow_x)
    with torch.inference_mode():
        error = relative(lowered(x), reference(x))
        times = medians(forms, runs)
    of_float = min(times["float"], times.get("channels_last", times["float"]))
    return {
        "ms": times["kernels"],
        "float_ms": of_float,
        "bf16_ms": times["bf16"],
        "speedup": of_float / times["kernels"],
        "max_rel_err": error,
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


def _int_mac_share(
    reference: fx.GraphModule, report: LoweringReport, artifact: Path, x: Tensor
) -> float:
    counter = _Macs(reference)
    with torch.no_grad():
        counter.run(x)
    nodes = {site.key: site.node for site in plan_of(artifact).core.sites}
    kernels = {nodes[layer.key] for layer in report.layers if layer.kernel is not None}
    inside = sum(count for name, count in counter.macs.items() if name in kernels)
    return inside / sum(counter.macs.values())


if __name__ == "__main__":
    main()
