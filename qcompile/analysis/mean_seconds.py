"""How long a piece of work takes the processor, in the midst of other work."""

import time
from collections.abc import Callable
from statistics import fmean

import torch

REPEATS = 5
BETWEEN = 1 << 20
"""Elements that are gone over between repetitions: in a run, too, caches hold something else."""


def mean_seconds(work: Callable[[], object]) -> float:
    """Seconds of one call, each behind other work; the first one warms up."""
    work()
    elsewhere = torch.zeros(BETWEEN)
    found: list[float] = []
    for _ in range(REPEATS):
        elsewhere += 1
        started = time.thread_time()
        work()
        found.append(time.thread_time() - started)
    return fmean(found)
