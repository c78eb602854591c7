"""What a model on `x86-int8` spends its time on: ``python -m tests.bench.kernel_shares [BATCH]``.

Processor time of one thread, in turn with float; the fastest of all rounds, since others use the
cache too. `products alone` is the chain of ``kernel_ceiling``, and `at the peak` the same number of
multiplications at the speed of one large product: what the processor, not the lowering, allows.
Shares are of the time in kernels, node by node; `rest` is what no node accounts for.
"""

import copy
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import torch
from torch import fx, nn

from qcompile.capture.operations import bare_name
from qcompile.compat.onednn_operations import onednn
from qcompile.driver.load import lowering
from qcompile.emit.lower.kernels import add_outer, channels_twice, pad_codes, quantize, rows_twice
from tests.bench.kernel_ceiling import products
from tests.bench.kernel_cell import quantized
from tests.bench.kernel_models import MODELS

TARGET = "x86-int8"
BATCH, ROUNDS = 8, 20
SIDE = 2048
"""Of the square product that tells the peak."""
SHOWN = ("ResNet-18 shape", "EfficientNet-Lite0", "ViT-S/14")
KINDS = ("products", "attention", "norms", "quantizers", "pools", "other operations")
HEADS = (
    *("model", "float ms", "kernels ms", "speedup", "products alone ms", "ceiling"),
    *("at the peak ms", "ceiling of the processor", *KINDS, "rest"),
)
QUANTIZERS = frozenset({quantize, pad_codes, rows_twice, channels_twice})
ATTENTION = frozenset({"scaled_dot_product_attention", "softmax", "bmm"})
NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.BatchNorm2d)
POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)


def main(batch: int) -> None:
    torch.set_num_threads(1)
    print(f"| {' | '.join(HEADS)} |\n|{'---|' * len(HEADS)}")
    for name in SHOWN:
        print(f"| {name} | {' | '.join(row(name, batch))} |", flush=True)


def row(name: str, batch: int) -> list[str]:
    model = MODELS[name]
    net, x = model.make(), model.batch(batch, seed=batch)
    with tempfile.TemporaryDirectory() as folder:
        quantized(model, net, TARGET, Path(folder) / "artifact")
        lowered = lowering(Path(folder) / "artifact", TARGET, check=False).module
    images = x.to(memory_format=torch.channels_last)
    last = copy.deepcopy(net).to(memory_format=torch.channels_last)
    chain, nodes = products(lowered, images), _Timed(lowered)
    assert chain is not None
    forms: dict[str, Callable[[], object]] = {
        "float": lambda: net(x),
        "float last": lambda: last(images),
        "kernels": lambda: lowered(images),
        "products": chain,
        "peak": large_product(),
        "nodes": lambda: nodes.run(images),
    }
    with torch.no_grad():
        times = fastest(forms, ROUNDS)
        each = chain.multiplications()
    of_float, ours = min(times["float"], times["float last"]), times["kernels"]
    at_peak = times["peak"] * each / SIDE**3
    shares = nodes.shares(ours)
    numbers = (of_float, ours, of_float / ours, times["products"], of_float / times["products"])
    shown = [f"{value:.2f}" for value in (*numbers, at_peak, of_float / at_peak)]
    return [*shown, *(f"{share:.1%}" for share in shares)]


def large_product() -> Callable[[], object]:
    names = onednn()
    assert names is not None
    codes = torch.full((SIDE, SIDE), 3, dtype=torch.uint8)
    packed = names.pack_linear(codes.to(torch.int8), None)
    scale, zeros = torch.ones(SIDE), torch.zeros(SIDE, dtype=torch.int64)
    tail = (None, 1.0, 0, torch.uint8, "none", [], "")
    return lambda: names.linear(codes, 1.0, 0, packed, scale, zeros, *tail)


def fastest(forms: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Milliseconds of the processor. A call before each leaves in the cache what is its own."""
    found = dict.fromkeys(forms, float("inf"))
    for _ in range(rounds):
        for name, run in forms.items():
            run()
            start = time.process_time()
            run()
            found[name] = min(found[name], 1e3 * (time.process_time() - start))
    return found


def kind_of(module: nn.Module, node: fx.Node) -> str | None:
    """``None`` for what only names a value."""
    if node.op in ("placeholder", "output", "get_attr"):
        return None
    names = onednn()
    if names is not None and node.target in (
        *(names.linear, names.linear_add, names.conv2d, names.conv2d_add, add_outer),
    ):
        return "products"
    if node.op == "call_module":
        leaf = module.get_submodule(str(node.target))
        if isinstance(leaf, NORMS):
            return "norms"
        return "pools" if isinstance(leaf, POOLS) else "other operations"
    if node.target in QUANTIZERS:
        return "quantizers"
    name = bare_name(node) or ""
    return "attention" if name in ATTENTION else "pools" if "pool" in name else "other operations"


class _Timed(fx.Interpreter):
    """The fastest run of each node."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.best: dict[fx.Node, float] = {}

    def run_node(self, n: fx.Node) -> object:
        start = time.process_time()
        made = super().run_node(n)
        took = 1e3 * (time.process_time() - start)
        self.best[n] = min(took, self.best.get(n, took))
        return made

    def shares(self, whole: float) -> list[float]:
        """Of ``whole`` milliseconds, by kind; what is left is last."""
        sums = dict.fromkeys(KINDS, 0.0)
        for node, took in self.best.items():
            kind = kind_of(cast("nn.Module", self.module), node)
            if kind is not None:
                sums[kind] += took
        return [*(value / whole for value in sums.values()), 1 - sum(sums.values()) / whole]


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else BATCH)
