"""Compute one cell, in a process of its own so that time and memory are the cell's alone.

Reads the request as JSON from standard input, writes the result as JSON to standard output.
"""

import json
import sys
import time
from collections.abc import Generator
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
from qcompile.driver.report import peak_rss_mb
from qcompile.driver.run import RunOptions, execute
from tests.bench.cells import Json
from tests.bench.request import FloatRequest, QuantizedRequest, Request, read_request
from tests.bench.variant import Variant

BATCH = 20
"""Small enough for the activations to stay in the cache."""


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
class Decisions:
    predicted: Tensor
    labels: Tensor

    @property
    def top1(self) -> float:
        return _share(self.predicted == self.labels)

    @property
    def digits(self) -> str:
        """One a test image, in order: enough for any comparison later."""
        return "".join(map(str, self.predicted.tolist()))


def main() -> None:
    request = read_request(json.load(sys.stdin))
    torch.set_num_threads(request.threads)
    result = _measure_float(request) if isinstance(request, FloatRequest) else _quantize(request)
    json.dump({**result, "threads": request.threads, "torch": torch.__version__}, sys.stdout)


def _measure_float(request: FloatRequest) -> dict[str, Json]:
    clock = Clock()
    model = cast("nn.Module", _called(request.factory))
    with clock.phase("evaluate"):
        decisions = _decide(model, request)
    return {
        "top1": decisions.top1,
        "images": len(decisions.labels),
        "decisions": decisions.digits,
        "phases": clock.phases,
    }


def _quantize(request: QuantizedRequest) -> dict[str, Json]:
    clock = Clock()
    with clock.phase("capture"):
        bound = qcompile.bind(Variant(Path(request.recipe), request.text).recipe())
    with clock.phase("plan"):
        planned = make_plan(bound)
    output = Path(request.output)
    with clock.phase("run"):
        execute(planned, output, RunOptions(work=output.parent / "runs", replace=True))
    peak = peak_rss_mb()
    del bound
    model = qcompile.load(output)
    with clock.phase("evaluate"):
        decisions = _decide(model, request)
    pairs = zip(decisions.digits, request.float_decisions, strict=True)
    same = [mine == theirs for mine, theirs in pairs]
    return {
        "top1": decisions.top1,
        "agreement": _share(torch.tensor(same)),
        "images": len(decisions.labels),
        "decisions": decisions.digits,
        "bytes_float": planned.plan.core.bytes_before,
        "bytes": planned.plan.core.bytes_after,
        "peak_rss_mb": peak,
        "phases": clock.phases,
    }


def _decide(model: nn.Module, request: Request) -> Decisions:
    data = cast("Dataset[tuple[Tensor, Tensor]]", _called(request.test_data))
    images = min(request.test_images, len(data))  # pyright: ignore[reportArgumentType]
    predicted: list[Tensor] = []
    labels: list[Tensor] = []
    with torch.inference_mode():
        for batch, label in DataLoader(Subset(data, range(images)), BATCH):
            predicted.append(cast("Tensor", model(batch)).argmax(1))
            labels.append(label)
    return Decisions(torch.cat(predicted), torch.cat(labels))


def _called(reference: str) -> object:
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)()


def _share(hits: Tensor) -> float:
    return hits.double().mean().item()


if __name__ == "__main__":
    main()
