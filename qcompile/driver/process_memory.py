"""How much memory this process holds, and may hold."""

import os
import resource
from contextlib import suppress
from pathlib import Path

_STATM = Path("/proc/self/statm")
CONTAINER_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
"""Of Linux; the word ``max`` where there is none."""


def peak_rss_mb() -> float:
    """Of this process so far (``ru_maxrss`` counts kilobytes on Linux)."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def resident_bytes() -> int:
    """Of this process now; where that is not told, the most that it has had."""
    try:
        return int(_STATM.read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError, ValueError):
        return int(peak_rss_mb() * 1024 * 1024)


def memory_bytes() -> int | None:
    """Of the machine, or what a container lets its processes have; ``None`` where not told."""
    found: list[int] = []
    with suppress(OSError, ValueError, AttributeError):  # names that this system does not have
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for file in CONTAINER_LIMITS:
        try:
            found.append(int(file.read_text()))
        except (OSError, ValueError):
            continue
    return min(found, default=None)
