"""What a sweep tells of as it goes on."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SweepStep:
    """Told to the progress callback as work goes on.

    Work is counted in pieces: one for each site, one for each ``Tick`` of a reconstruction.
    ``number`` is the piece that is about to begin, from 1. ``loss`` is a reconstruction's,
    relative to its start.
    """

    unit: str
    site: str
    number: int
    total: int
    step: int | None = None
    loss: float | None = None


Progress = Callable[[SweepStep], None]
