"""The speeds of this machine, measured once and kept in the user's cache."""

import platform
from pathlib import Path

import torch
from platformdirs import user_cache_path
from pydantic import ValidationError

from qcompile.analysis.measure_speeds import measure_speeds
from qcompile.analysis.speeds import Speeds
from qcompile.store.atomic import write_file
from qcompile.store.canonical import canonical_json, sha256_hex
from qcompile.store.disk import Disk

MEASURED = "7"
"""Changes when other things are measured: older figures are not read."""
CPUS = Path("/proc/cpuinfo")


def machine_speeds() -> Speeds:
    """From the cache, or measured now, in some fifteen seconds, and kept if that can be."""
    machine = this_machine()
    name = sha256_hex(canonical_json(machine))[:16]
    file = user_cache_path("qcompile") / f"speeds-{name}.json"
    try:
        kept = Speeds.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        kept = None
    if kept is not None and kept.machine == machine:
        return kept
    measured = measure_speeds(machine)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError:
        return measured
    write_file(Disk(), file, canonical_json(measured.model_dump(mode="json")))
    return measured


def this_machine() -> dict[str, str]:
    """Everything on which the speeds depend."""
    return {
        "measured": MEASURED,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "cpu": _cpu_name(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
    }


def _cpu_name() -> str:
    """As Linux calls it; elsewhere as Python does."""
    try:
        lines = CPUS.read_text(errors="replace").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
