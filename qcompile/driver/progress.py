"""What a run tells while it goes on; how it is shown is the interface's affair."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """``done`` of ``total`` sites; ``eta`` in seconds, ``None`` before there is a pace."""

    unit: str
    site: str
    done: int
    total: int
    seconds: float
    eta: float | None
    resumed: bool = False
    """The run went on from a saved state; ``done`` counts what it found."""


Listener = Callable[[Progress], None]


class StopRequestedError(Exception):
    """Raised at a safe point after the caller's ``should_stop`` said so; the state is kept."""


class Pace:
    """Seconds so far and a forecast of the rest, by sites finished since ``start``."""

    def __init__(self, start: float, already: int) -> None:
        """``start`` as ``time.monotonic``; ``already`` sites cost this process nothing."""
        self._start = start
        self._already = already

    def at(self, now: float, unit: str, site: str, number: int, total: int) -> Progress:
        """Before site ``number`` (from 1) is worked on."""
        seconds = now - self._start
        finished = number - 1 - self._already
        eta = seconds / finished * (total - number + 1) if finished > 0 else None
        return Progress(unit, site, number - 1, total, seconds, eta, self._already > 0)
