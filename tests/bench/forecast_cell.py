"""Measure one row of ``make bench-forecast`` in a process of its own: a forecast, then the run.

Reads ``{"recipe", "tune"}`` as JSON from standard input, and formats that stand in for its own as
``"weight"`` and ``"act"``; writes its figures to standard output. Seconds are of processor time in
one thread, so that a busy machine falsifies them less. The speeds of the machine are in the cache.
"""

import json
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

import qcompile
from qcompile.driver.plan import Planned, make_plan
from qcompile.driver.process_memory import peak_rss_mb
from qcompile.driver.recipes import recipe_path
from qcompile.driver.run import execute
from qcompile.driver.run_options import RunOptions
from tests.bench.cells import Json
from tests.bench.variant import Variant

MIB = 1 << 20


def main() -> None:
    torch.set_num_threads(1)
    request: dict[str, str] = json.load(sys.stdin)
    with TemporaryDirectory() as folder:
        json.dump(_measured(request, Path(folder)), sys.stdout)


def _measured(request: Mapping[str, str], folder: Path) -> dict[str, Json]:
    path = recipe_path(request["recipe"])
    text = re.sub(r"\ntune .*", f"\ntune {request['tune']}", path.read_text())
    for slot in ("weight", "act"):
        if slot in request:  # in the first scheme, on which the others build
            text = re.sub(rf"\n  {slot} .*", f"\n  {slot} {request[slot]}", text, count=1)
    bound = qcompile.bind(Variant(path, text).recipe(), trusted=frozenset({"tests"}))
    planned = make_plan(bound, forecast=True)
    expected = planned.plan.beside.forecast
    assert expected is not None
    started = time.process_time()
    execute(_as_run(planned), folder / "out", RunOptions(work=folder / "runs"))
    artifact = (folder / "out" / "model.safetensors").read_bytes()
    header = 8 + int.from_bytes(artifact[:8], "little")
    return {
        "seconds": round(time.process_time() - started, 2),
        "seconds_forecast": expected.seconds,
        "peak_mb": peak_rss_mb(),
        "peak_mb_forecast": round(expected.peak_bytes / MIB, 1),
        "bytes": len(artifact) - header,
        "bytes_forecast": planned.plan.core.bytes_after,
        "torch": torch.__version__,
        "cpu": expected.machine["cpu"],
    }


def _as_run(planned: Planned) -> Planned:
    """The plan as ``run`` makes it, without a forecast."""
    beside = planned.plan.beside.model_copy(update={"forecast": None})
    return replace(planned, plan=planned.plan.model_copy(update={"beside": beside}))


if __name__ == "__main__":
    main()
