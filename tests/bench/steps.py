"""``make bench-steps``: the time of one step of a reconstruction, beside a plain loop.

AdaRound's gates (2004.10568) on a residual block of ResNet-18's first stage and on a block of
ViT-S, batch 32. The plain loop runs the float block anew for its target, rounds by automatic
differentiation and uses Adam as it comes; ours has the target cached. Both start from the same
gates and see the same batch, so their losses can be compared. No regulariser in either, so that
both minimise the same. Writes ``build/bench/steps.json`` and prints a table.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import reduce
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

import qcompile
from qcompile.compat.cpu_features import multiplies_bf16
from qcompile.diagnostics.source import Source
from qcompile.driver.front import check_source
from qcompile.driver.plan import make_plan
from qcompile.driver.progress import Progress
from qcompile.driver.run import execute
from qcompile.driver.run_options import RunOptions
from qcompile.policy.scheme import IntFormat, PerChannel, QuantSlot
from qcompile.quant.range_search import weight_range
from qcompile.quant.rounding_gate import gate, initial_variable
from tests.bench.matrix import ROOT
from tests.bench.step_blocks import BLOCKS, inputs

OUTPUT = ROOT / "build" / "bench" / "steps.json"
STEPS = 16
RATE = 1e-3
WEIGHT = QuantSlot(IntFormat(4, signed=True), symmetric=True, granularity=PerChannel())
GOALS = {"residual block, 64x56x56": 3.3, "ViT-S block, 197x384": 2.8}
"""On a processor that multiplies bf16 in hardware."""

RECIPE = """qrecipe 1
model "tests.bench.step_blocks:FACTORY"
scheme w4 {
  weight int4 symmetric per_channel
  act float
}
policy main {
  use w4 for conv or linear
}
calibrate {
  data = "tests.bench.step_blocks:FACTORY_inputs"
  samples = 32
  batch = 32
  seed = 1
}
tune adaround {
  partition = block
  steps = STEPS
  optimizer = adam(lr=RATE)
  warmup = 99%
}
"""


@dataclass(frozen=True, slots=True)
class Timing:
    """``ms`` of one step, median; ``losses`` after the first, relative to it."""

    ms: float
    losses: tuple[float, ...]


def ours(factory: str, output: Path) -> Timing:
    """Through the whole compiler; its progress tells time and loss of each step."""
    given = {"FACTORY": factory, "STEPS": str(STEPS), "RATE": str(RATE)}
    text = reduce(lambda known, item: known.replace(*item), given.items(), RECIPE)
    checked = check_source(Source(str(ROOT / "steps.qrecipe"), text))
    assert checked.recipe is not None, checked.diagnostics
    planned = make_plan(qcompile.bind(checked.recipe))
    seen: list[tuple[float, float]] = []

    def listen(moment: Progress) -> None:
        if moment.loss is not None:
            seen.append((time.perf_counter(), moment.loss))

    execute(planned, output, RunOptions(replace=True, fresh=True, listener=listen))
    times = [time_ for time_, _ in seen]
    return Timing(_median_ms(times), tuple(loss for _, loss in seen))


def plain(factory: str) -> Timing:
    model, x = BLOCKS[factory]().eval(), inputs(factory)
    gates: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            weight = module.weight.detach()
            scale = weight_range(weight, WEIGHT, 0).scale
            scale = scale.view(-1, *[1] * (weight.dim() - 1))
            floor = torch.floor(weight / scale)
            variable = initial_variable(weight / scale, floor).requires_grad_()
            gates[f"{name}.weight"] = (variable, floor, scale)
    number = cast("IntFormat", WEIGHT.format)
    rule = torch.optim.Adam([variable for variable, _, _ in gates.values()], lr=RATE)
    times: list[float] = []
    losses: list[float] = []
    for _ in range(STEPS):
        with torch.no_grad():
            target = model(x)
        soft = {
            path: (floor + gate(variable)).clamp(number.qmin, number.qmax) * scale
            for path, (variable, floor, scale) in gates.items()
        }
        loss = (functional_call(model, soft, (x,)) - target).square().mean()
        losses.append(float(loss.detach()))
        rule.zero_grad()
        (loss / losses[0]).backward()  # gradients far above Adam's epsilon, as in ours
        rule.step()
        times.append(time.perf_counter())
    return Timing(_median_ms(times), tuple(loss / losses[0] for loss in losses))


def _median_ms(times: list[float]) -> float:
    steps = [after - before for before, after in pairwise(times)]
    return 1e3 * median(steps[1:])


def measured(runs: int, run: Callable[[], Timing]) -> Timing:
    """The run of median time."""
    found = sorted((run() for _ in range(runs)), key=lambda one: one.ms)
    return found[len(found) // 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    bf16 = multiplies_bf16()
    print("| block | plain ms | ours ms | ratio | goal with bf16 | last loss, plain | ours |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    rows: list[dict[str, object]] = []
    for name, factory in (
        ("residual block, 64x56x56", "residual"),
        ("ViT-S block, 197x384", "transformer"),
    ):
        output = OUTPUT.parent / "artifacts" / f"step-{factory}"
        theirs = measured(given.runs, lambda factory=factory: plain(factory))
        mine = measured(given.runs, lambda factory=factory, to=output: ours(factory, to))
        ratio = theirs.ms / mine.ms
        rows.append({"block": name, "ratio": ratio, "plain": asdict(theirs), "ours": asdict(mine)})
        print(
            f"| {name} | {theirs.ms:.0f} | {mine.ms:.0f} | {ratio:.2f} | {GOALS[name]}"
            f" | {theirs.losses[-1]:.6f} | {mine.losses[-1]:.6f} |"
        )
    document = {
        "threads": given.threads,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "multiplies_bf16": bf16,
        "rows": rows,
    }
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(document, indent=1) + "\n")
    if not bf16:
        print("\nThis processor does not multiply bf16 in hardware: both loops are float32.")


if __name__ == "__main__":
    main()
