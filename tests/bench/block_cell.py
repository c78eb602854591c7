"""One method on one block, in a process of its own: reads a request, writes a result, as JSON.

Everything in front of the block is quantized once, and kept on disk. The method fits the block on
the first images; its output is compared with the float one on the last, which took no part.
"""

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

import qcompile
from qcompile.driver.plan import Planned, make_plan
from qcompile.driver.prepared import prepared
from qcompile.driver.tunes import tunings_by_node
from qcompile.passes.sweep import UnitOutcome, sweep
from qcompile.passes.sweep_progress import Progress
from qcompile.passes.sweep_state import ChainState, restored
from tests.bench.block_methods import FITTED, HELD_OUT
from tests.bench.step_cost import StepClock
from tests.bench.variant import Variant

CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class BlockRequest:
    recipe: str
    text: str
    """With the method's ``tune``."""
    prefix_text: str
    prefix: str
    """File that keeps the state in front of the block."""
    block: str
    threads: int


@dataclass(frozen=True, slots=True, eq=False)
class Streams:
    """Outputs of the block, a batch each: of the float model and behind quantization."""

    plain: list[Tensor]
    quantized: list[Tensor]

    def part(self, start: int, stop: int) -> "Streams":
        """Images ``start`` to ``stop``; batches are not cut."""
        sizes = [len(batch) for batch in self.plain]
        ends = [sum(sizes[: n + 1]) for n in range(len(sizes))]
        kept = [n for n, end in enumerate(ends) if start < end <= stop]
        return Streams([self.plain[n] for n in kept], [self.quantized[n] for n in kept])

    def mean_difference(self) -> Tensor:
        """``[channels]``: float less quantized."""
        rows = torch.cat([_rows(f.double() - q) for f, q in self._pairs()])
        return rows.mean(0)

    def error(self, shift: Tensor | None = None) -> float:
        """``sum |q + shift - f|^2 / sum |f|^2``."""
        distance = power = 0.0
        for plain, quantized in self._pairs():
            apart = _rows(quantized.double() - plain)
            distance += float((apart if shift is None else apart + shift).square().sum())
            power += float(plain.double().square().sum())
        return distance / power

    def _pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        return zip(self.plain, self.quantized, strict=True)


def _rows(x: Tensor) -> Tensor:
    """``[positions, channels]`` of ``[n, channels, h, w]`` or ``[n, tokens, channels]``."""
    return (x.movedim(1, -1) if x.dim() == 4 else x).flatten(0, -2)


def main() -> None:
    request = BlockRequest(**json.load(sys.stdin))
    torch.set_num_threads(request.threads)
    json.dump({**measured(request), "threads": request.threads}, sys.stdout)


def measured(request: BlockRequest) -> dict[str, object]:
    start = _prefix(request)
    planned = _planned(request.recipe, request.text)
    clock = StepClock()
    wall, cpu = time.monotonic(), time.process_time()
    outcome = next(_sweep(planned, start, clock))
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    unit = next(unit for unit in planned.bound.units if unit.name == outcome.unit)
    assert unit.name == request.block, unit.name
    streams, _ = restored(outcome.state, CPU)
    node = unit.outputs[-1]
    both = Streams(
        cast("list[Tensor]", streams.float_values(node)),
        cast("list[Tensor]", streams.quantized_values(node)),
    )
    fitted, held = both.part(0, FITTED), both.part(FITTED, FITTED + HELD_OUT)
    shift = fitted.mean_difference()
    accounts = [asdict(account) for _, account in outcome.accounts]
    return {
        "error": held.error(),
        "error_after_bias": held.error(shift),
        "error_fitted": fitted.error(),
        "seconds": wall,
        "cpu_seconds": cpu,
        "seconds_a_step": clock.seconds_a_step,
        "accounts": accounts,
        "torch": torch.__version__,
    }


def _prefix(request: BlockRequest) -> ChainState:
    """The state in front of the block; computed where the file is not there."""
    file = Path(request.prefix)
    if not file.exists():
        planned = _planned(request.recipe, request.prefix_text)
        names = [unit.name for unit in planned.bound.units]
        before = names[names.index(request.block) - 1]
        state = next(one.state for one in _sweep(planned) if one.unit == before)
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(".part")
        torch.save((state.unit, state.tensors, state.index), unfinished)
        unfinished.rename(file)
    return ChainState(*torch.load(file, weights_only=True))


def _planned(recipe: str, text: str) -> Planned:
    bound = qcompile.bind(Variant(Path(recipe), text).recipe())
    planned, _ = prepared(make_plan(bound), CPU)
    return planned


def _sweep(
    planned: Planned, start: ChainState | None = None, listen: StepClock | None = None
) -> Iterator[UnitOutcome]:
    core, bound = planned.plan.core, planned.bound
    assert planned.calibration is not None
    yield from sweep(
        bound.graph,
        bound.units,
        {site.node: site for site in core.sites},
        planned.calibration.batches,
        tuning=core.tuning,
        tunings=tunings_by_node(core),
        norms={unit.name: unit.refits for unit in core.units},
        seed=core.seed,
        device=CPU,
        start=start,
        progress=cast("Progress | None", listen),
    )


if __name__ == "__main__":
    main()
