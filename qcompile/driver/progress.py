"""What a run tells while it goes on; how it is shown is the interface's affair."""

from collections.abc import Callable
from dataclasses import dataclass

from qcompile.passes.sweep_progress import SweepStep


@dataclass(frozen=True, slots=True)
class Progress:
    """``done`` of ``total`` pieces of work; ``eta`` in seconds, ``None`` before there is a pace."""

    unit: str
    site: str
    done: int
    total: int
    seconds: float
    eta: float | None
    step: int | None = None
    """Of the reconstruction that is going on."""
    loss: float | None = None
    """Of the reconstruction, relative to its start."""


Listener = Callable[[Progress], None]


class StopRequestedError(Exception):
    """Raised at a safe point after the caller's ``should_stop`` said so; the state is kept."""


class Pace:
    """Seconds so far and a forecast of the rest, by pieces of work finished since ``start``."""

    def __init__(self, start: float) -> None:
        """``start`` as ``time.monotonic``."""
        self._start = start
        self._first: int | None = None

    def at(self, now: float, step: SweepStep) -> Progress:
        """Before piece ``step.number``; what came before the first call cost us nothing."""
        if self._first is None:
            self._first = step.number
        seconds = now - self._start
        finished = step.number - self._first
        eta = seconds / finished * (step.total - step.number + 1) if finished > 0 else None
        return Progress(
            unit=step.unit,
            site=step.site,
            done=step.number - 1,
            total=step.total,
            seconds=seconds,
            eta=eta,
            step=step.step,
            loss=step.loss,
        )
