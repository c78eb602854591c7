"""How much memory this process holds."""

import resource
from pathlib import Path

_STATM = Path("/proc/self/statm")


def peak_rss_mb() -> float:
    """Of this process so far (``ru_maxrss`` counts kilobytes on Linux)."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def resident_bytes() -> int:
    """Of this process now; where that is not told, the most that it has had."""
    try:
        return int(_STATM.read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError, ValueError):
        return int(peak_rss_mb() * 1024 * 1024)
