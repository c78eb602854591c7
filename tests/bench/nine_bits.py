"""What a zero point of 8-bit weights costs in integer products, beside float: docs/targets.md.

``python -m tests.bench.nine_bits [BATCH]`` prints a table of processor times of single layers; each
is the artifact's layer as it is loaded, with the quantizer of its input, behind it a ReLU.
"""

import sys
import time
from dataclasses import dataclass, replace
from statistics import median

import torch
from torch import Tensor, fx, nn

from qcompile.capture.trace import trace
from qcompile.emit.lower.lower import lower
from qcompile.emit.lower.lowering import Lowering
from qcompile.emit.materialize import materialize
from qcompile.policy.scheme import IntFormat, PerChannel, PerTensor, QuantSlot
from qcompile.targets.catalogue import find_target
from qcompile.targets.target import Target
from tests.emit.planning import plan_of, site_of, tensors_of_plan

ROUNDS = 25
ACT = QuantSlot(format=IntFormat(bits=8, signed=False), symmetric=False, granularity=PerTensor())
WITH_ZERO = replace(ACT, granularity=PerChannel())
SYMMETRIC = replace(WITH_ZERO, format=IntFormat(bits=8, signed=True), symmetric=True)


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    layer: nn.Module
    shape: tuple[int, ...]
    """Of one sample."""


def rows() -> list[Row]:
    return [
        Row("3 -> 32, 3x3 / 2, of 112", nn.Conv2d(3, 32, 3, 2, 1), (3, 112, 112)),
        Row("16 -> 96, 1x1, of 56", nn.Conv2d(16, 96, 1), (16, 56, 56)),
        Row(
            "96, 3x3 / 2, in groups of one, of 56",
            nn.Conv2d(96, 96, 3, 2, 1, groups=96),
            (96, 56, 56),
        ),
        Row(
            "480, 5x5, in groups of one, of 7",
            nn.Conv2d(480, 480, 5, 1, 2, groups=480),
            (480, 7, 7),
        ),
        Row("320 -> 1280, 1x1, of 4", nn.Conv2d(320, 1280, 1), (320, 4, 4)),
        Row("64 -> 64, 3x3, of 56", nn.Conv2d(64, 64, 3, 1, 1), (64, 56, 56)),
        Row("3 -> 384, 14x14 / 14, of 98", nn.Conv2d(3, 384, 14, 14), (3, 98, 98)),
        Row("linear 384 -> 1536, 50 tokens", nn.Linear(384, 1536), (50, 384)),
        Row("linear 1536 -> 384, 50 tokens", nn.Linear(1536, 384), (50, 1536)),
        Row("linear 1280 -> 10", nn.Linear(1280, 10), (1280,)),
    ]


def loaded(layer: nn.Module, x: Tensor, weight: QuantSlot) -> tuple[fx.GraphModule, fx.GraphModule]:
    """Simulation and kernels."""
    net = nn.Sequential(layer, nn.ReLU()).eval()
    module = trace(net, (x,), {}).module
    assert module is not None
    node = next(node for node in module.graph.nodes if node.name == "_0")
    plan = plan_of(module, [site_of(module, node, weight, ACT)])
    reference = materialize(module, plan.core, tensors_of_plan(module, plan.core))
    target = find_target("x86-int8")
    assert isinstance(target, Target)
    made = lower(reference, plan.core, target)
    assert isinstance(made, Lowering)
    assert made.report.in_float == ()
    return reference, made.module


def times(models: list[nn.Module], x: Tensor) -> list[float]:
    """Median milliseconds of processor time, in turns."""
    spent: list[list[float]] = [[] for _ in models]
    with torch.no_grad():
        for _ in range(ROUNDS):
            for model, its in zip(models, spent, strict=True):
                start = time.thread_time()
                model(x)
                its.append(1e3 * (time.thread_time() - start))
    return [median(its) for its in spent]


def main(batch: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print("| layer | float | reference | `int8 symmetric` | `uint8 asymmetric` |")
    print("|---|--:|--:|--:|--:|")
    for row in rows():
        x = torch.randn(batch, *row.shape)
        if x.dim() == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        plain = nn.Sequential(row.layer, nn.ReLU()).eval()
        _, symmetric = loaded(row.layer, x, SYMMETRIC)
        reference, with_zero = loaded(row.layer, x, WITH_ZERO)
        found = times([plain, reference, symmetric, with_zero], x)
        print(f"| {row.name} | {' | '.join(f'{one:.2f}' for one in found)} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 8)
