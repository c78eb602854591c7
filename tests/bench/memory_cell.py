"""Measure the memory of one run, unit by unit, in a process of its own; Linux alone.

Reads ``{"recipe", "tune"}`` as JSON from standard input, writes ``{"start_mb", "units"}`` to
standard output. By unit, in MB, measured and as forecast: what is resident beyond the start when a
layer is about to be quantized; what fitting it, and learning, take beyond that; and the most that
is resident beyond the start. A short run comes first, so that kernels are loaded.
"""

import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ParamSpec, TypeVar
from unittest.mock import patch

import torch

import qcompile
from qcompile.compat.heap import give_back_freed
from qcompile.driver import run
from qcompile.driver.plan import make_plan
from qcompile.driver.process_memory import resident_bytes
from qcompile.driver.progress import Progress
from qcompile.driver.recipes import recipe_path
from qcompile.passes import sweep
from tests.bench.cells import Json
from tests.bench.memory import TERMS
from tests.bench.variant import Variant

MIB = 1 << 20
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
FORGET_PEAK = "5"

P = ParamSpec("P")
R = TypeVar("R")


def main() -> None:
    torch.set_num_threads(1)
    request: dict[str, str] = json.load(sys.stdin)
    with TemporaryDirectory() as folder:
        json.dump(_measured(request, Path(folder)), sys.stdout)


@dataclass
class _Watch:
    """The most of each term between one unit's first word and the next one's."""

    start: float = 0.0
    unit: str = ""
    found: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])

    def __call__(self, moment: Progress) -> None:
        if moment.unit != self.unit:
            self.note_peak()
            give_back_freed()
            self.unit = moment.unit
            CLEAR.write_text(FORGET_PEAK)

    def from_start(self, walk: Callable[P, R]) -> Callable[P, R]:
        """Before anything is computed of the samples, which come in; padding them is."""

        def watched(*args: P.args, **kwargs: P.kwargs) -> R:
            give_back_freed()
            self.start = resident_bytes() / MIB
            return walk(*args, **kwargs)

        return watched

    def note_peak(self) -> float:
        """In MB, since the last time that it was asked for."""
        (line,) = re.findall(r"^VmHWM:\s*(\d+) kB$", STATUS.read_text(), re.MULTILINE)
        peak = int(line) / 1024
        self.note("peak", peak - self.start)
        CLEAR.write_text(FORGET_PEAK)
        return peak

    def note(self, term: str, value: float) -> None:
        of_unit = self.found.setdefault(self.unit, dict.fromkeys(TERMS, 0.0))
        of_unit[term] = max(of_unit[term], value)

    def around(self, term: str, work: Callable[P, R]) -> Callable[P, R]:
        def watched(*args: P.args, **kwargs: P.kwargs) -> R:
            self.note_peak()
            give_back_freed()
            before = resident_bytes() / MIB
            if term == "statistics":
                self.note("streams", before - self.start)
            CLEAR.write_text(FORGET_PEAK)
            result = work(*args, **kwargs)
            self.note(term, self.note_peak() - before)
            return result

        return watched


def _warm_up(path: Path, text: str, folder: Path) -> None:
    """What a process loads only when it runs is nobody's figure."""
    few = re.sub(r"\n  samples = .*", "\n  samples = 64", text)
    planned = make_plan(qcompile.bind(Variant(path, few).recipe(), trusted=frozenset({"tests"})))
    run.execute(planned, folder / "out", run.RunOptions(work=folder / "runs"))


def _measured(request: Mapping[str, str], folder: Path) -> dict[str, Json]:
    path = recipe_path(request["recipe"])
    text = re.sub(r"\ntune .*", f"\ntune {request['tune']}", path.read_text())
    bound = qcompile.bind(Variant(path, text).recipe(), trusted=frozenset({"tests"}))
    planned = make_plan(bound, forecast=True)
    expected = planned.plan.beside.forecast
    assert expected is not None
    _warm_up(path, text, folder / "first")
    watch = _Watch()
    with (
        patch.object(run, "sweep", watch.from_start(run.sweep)),
        patch.object(sweep, "quantize_site", watch.around("statistics", sweep.quantize_site)),
        patch.object(sweep, "reconstruct", watch.around("learning", sweep.reconstruct)),
    ):
        options = run.RunOptions(work=folder / "runs", listener=watch)
        run.execute(planned, folder / "out", options)
    watch.note_peak()
    units: dict[str, Json] = {}
    for unit in expected.units:
        if unit.unit in watch.found:
            forecasts = (
                *(unit.streams_bytes, unit.statistics_bytes, unit.learning_bytes),
                unit.peak_bytes,
            )
            units[unit.unit] = {
                term: [round(watch.found[unit.unit][term], 1), round(count / MIB, 1)]
                for term, count in zip(TERMS, forecasts, strict=True)
            }
    return {"start_mb": round(watch.start, 1), "units": units, "torch": torch.__version__}


if __name__ == "__main__":
    main()
