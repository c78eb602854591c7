"""Measure the memory of one run, unit by unit, in a process of its own; Linux alone.

Reads ``{"recipe", "tune"}`` as JSON from standard input, writes ``{"start_mb", "units"}`` to
standard output: by unit, in MB above what the process held before the first, the largest resident
memory and what the plan's forecast says of it.
"""

import json
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

import qcompile
from qcompile.compat.heap import give_back_freed
from qcompile.driver.plan import make_plan
from qcompile.driver.process_memory import resident_bytes
from qcompile.driver.progress import Progress
from qcompile.driver.recipes import recipe_path
from qcompile.driver.run import RunOptions, execute
from tests.bench.cells import Json
from tests.bench.variant import Variant

MIB = 1 << 20
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
FORGET_PEAK = "5"


def main() -> None:
    torch.set_num_threads(1)
    request: dict[str, str] = json.load(sys.stdin)
    with TemporaryDirectory() as folder:
        json.dump(_measured(request["recipe"], request["tune"], Path(folder)), sys.stdout)


@dataclass
class _Watch:
    """Peaks between one unit's first word and the next one's."""

    start: float = 0.0
    peaks: dict[str, float] = field(default_factory=dict[str, float])
    unit: str = ""

    def __call__(self, moment: Progress) -> None:
        if moment.unit == self.unit:
            return
        self.close()
        give_back_freed()
        self.start = self.start or resident_bytes() / MIB
        self.unit = moment.unit
        CLEAR.write_text(FORGET_PEAK)

    def close(self) -> None:
        if self.unit:
            (line,) = re.findall(r"^VmHWM:\s*(\d+) kB$", STATUS.read_text(), re.MULTILINE)
            self.peaks[self.unit] = int(line) / 1024


def _measured(name: str, tune: str, folder: Path) -> dict[str, Json]:
    path = recipe_path(name)
    text = re.sub(r"\ntune .*", f"\ntune {tune}", path.read_text())
    bound = qcompile.bind(Variant(path, text).recipe(), trusted=frozenset({"tests"}))
    planned = make_plan(bound, forecast=True)
    expected = planned.plan.beside.forecast
    assert expected is not None
    watch = _Watch()
    options = RunOptions(work=folder / "runs", listener=watch)
    execute(planned, folder / "out", options)
    watch.close()
    units: dict[str, Json] = {
        unit.unit: {
            "peak_mb": round(watch.peaks[unit.unit] - watch.start, 1),
            "peak_mb_forecast": round(unit.peak_bytes / MIB, 1),
            "statistics_mb_forecast": round(unit.statistics_bytes / MIB, 1),
            "learning_mb_forecast": round(unit.learning_bytes / MIB, 1),
        }
        for unit in expected.units
        if unit.unit in watch.peaks
    }
    return {"start_mb": round(watch.start, 1), "units": units, "torch": torch.__version__}


if __name__ == "__main__":
    main()
