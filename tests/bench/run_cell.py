"""Compute one cell, in a process of its own so that time and memory are the cell's alone.

Reads the request as JSON from standard input, writes the result as JSON to standard output.
"""

import json
import sys
import time
from base64 import b64decode, b64encode
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

import qcompile
from qcompile.driver.plan import make_plan
from qcompile.driver.process_memory import peak_rss_mb
from qcompile.driver.run import execute
from qcompile.driver.run_options import RunOptions
from tests.bench.cells import Json
from tests.bench.last_block import block_error, last_block
from tests.bench.request import FloatRequest, QuantizedRequest, Request, read_request
from tests.bench.step_cost import StepClock
from tests.bench.variant import Variant

BATCH = 20
"""Small enough for the activations to stay in the cache."""
OF_LAST_BLOCK = 500
"""Test images on which the last block is compared, the first ones."""


@dataclass(slots=True)
class Clock:
    """Seconds of wall and of processor time by phase."""

    phases: dict[str, dict[str, Json]] = field(default_factory=dict[str, dict[str, Json]])

    @contextmanager
    def phase(self, name: str) -> Generator[None]:
        wall, cpu = time.monotonic(), time.process_time()
        yield
        self.phases[name] = {
            "wall": round(time.monotonic() - wall, 2),
            "cpu": round(time.process_time() - cpu, 2),
        }


@dataclass(frozen=True, slots=True, eq=False)
class Outputs:
    """``logits`` ``[images, classes]`` in float32."""

    logits: Tensor
    labels: Tensor

    @property
    def top1(self) -> float:
        return _share(self.logits.argmax(1) == self.labels)

    def first(self, count: int) -> "Outputs":
        """All of them where ``count`` is 0."""
        kept = count or len(self.labels)
        return Outputs(self.logits[:kept], self.labels[:kept])

    @property
    def encoded(self) -> str:
        """Enough for any comparison later."""
        return b64encode(self.logits.numpy().tobytes()).decode()

    def beside(self, of_float: str) -> dict[str, Json]:
        """Agreement, Kullback-Leibler divergence in nats, relative squared error of the logits."""
        data = bytearray(b64decode(of_float))
        other = torch.frombuffer(data, dtype=torch.float32).view(self.logits.shape).double()
        mine = self.logits.double()
        p, q = other.log_softmax(1), mine.log_softmax(1)
        return {
            "agreement": _share(mine.argmax(1) == other.argmax(1)),
            "kl": float((p.exp() * (p - q)).sum(1).mean()),
            "logit_error": float((mine - other).square().sum() / other.square().sum()),
        }


def main() -> None:
    request = read_request(json.load(sys.stdin))
    torch.set_num_threads(request.threads)
    result = _measure_float(request) if isinstance(request, FloatRequest) else _quantize(request)
    json.dump({**result, "threads": request.threads, "torch": torch.__version__}, sys.stdout)


def _measure_float(request: FloatRequest) -> dict[str, Json]:
    clock = Clock()
    model = cast("nn.Module", _called(request.factory))
    with clock.phase("evaluate"):
        outputs = _run(model, request)
    return {
        "top1": outputs.top1,
        "plain_top1": outputs.first(request.plain_images).top1,
        "images": len(outputs.labels),
        "logits": outputs.encoded,
        "phases": clock.phases,
    }


def _quantize(request: QuantizedRequest) -> dict[str, Json]:
    clock = Clock()
    with clock.phase("capture"):
        bound = qcompile.bind(Variant(Path(request.recipe), request.text).recipe())
    with clock.phase("plan"):
        planned = make_plan(bound)
    output = Path(request.output)
    steps = StepClock()
    work = output.parent / "runs"
    options = RunOptions(work=work, replace=True, fresh=request.is_timing, listener=steps)
    with clock.phase("run"):
        execute(planned, output, options)
    found: dict[str, Json] = {
        "bytes_float": planned.plan.core.bytes_before,
        "bytes": planned.plan.core.bytes_after,
        "peak_rss_mb": peak_rss_mb(),
        "seconds_a_step": steps.seconds_a_step,
        "stretches": _stretches(output),
    }
    if planned.plan.beside.choice is not None:
        found["choice"] = planned.plan.beside.choice.model_dump(mode="json")
    if not request.is_timing:
        model = qcompile.load(output)
        with clock.phase("evaluate"):
            outputs = _run(model, request)
            node = last_block(bound.units)
            batches = (batch for batch, _ in _batches(request, OF_LAST_BLOCK))
            found["rel_error"] = block_error(bound.graph, model, node, batches)
        found |= {
            "top1": outputs.top1,
            "plain_top1": outputs.first(request.plain_images).top1,
            "images": len(outputs.labels),
            **outputs.beside(request.float_logits),
        }
    return {**found, "phases": clock.phases}


def _stretches(output: Path) -> list[Json]:
    """What the guard saw of each stretch that was learned: errors on held-out batches."""
    report = json.loads((output / "report.json").read_text())
    learned = (one for unit in report["units"] for one in unit["reconstructions"])
    return [{"of": one["of"], "kept": one["kept"], **one["held_out_error"]} for one in learned]


def _run(model: nn.Module, request: Request) -> Outputs:
    logits: list[Tensor] = []
    labels: list[Tensor] = []
    with torch.inference_mode():
        for batch, label in _batches(request, request.test_images):
            logits.append(cast("Tensor", model(batch)))
            labels.append(label)
    return Outputs(torch.cat(logits), torch.cat(labels))


def _batches(request: Request, most: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Of the first ``most`` test images."""
    data = cast("Dataset[tuple[Tensor, Tensor]]", _called(request.test_data))
    images = min(request.test_images, most, len(data))  # pyright: ignore[reportArgumentType]
    yield from DataLoader(Subset(data, range(images)), BATCH)


def _called(reference: str) -> object:
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)()


def _share(hits: Tensor) -> float:
    return hits.double().mean().item()


if __name__ == "__main__":
    main()
