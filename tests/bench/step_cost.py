"""What the steps of a learning preset take, and how many of them a given time allows.

Loads no torch: the process that fills the table reads what a cell's process measured.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from qcompile.driver.progress import Progress

EQUAL = "equal"
"""``brecq@equal``: as many steps as take the time of ``REFERENCE``."""
REFERENCE = "hybrid"
TIMED_STEPS = 20
"""Of the short run that is timed; so few that progress is told after each."""


@dataclass(frozen=True, slots=True)
class StepCost:
    """Processor seconds of a run: ``fixed``, and ``step`` for one more step in every stretch."""

    fixed: float
    step: float

    def steps_in(self, seconds: float) -> int:
        """At least one: it is a preset that learns."""
        return max(int((seconds - self.fixed) / self.step), 1)


@dataclass(slots=True)
class StepClock:
    """Listens to a run, and tells what one step in every stretch took."""

    now: Callable[[], float] = time.process_time
    first: dict[tuple[str, str], tuple[int, float]] = field(
        default_factory=dict[tuple[str, str], tuple[int, float]]
    )
    last: dict[tuple[str, str], tuple[int, float]] = field(
        default_factory=dict[tuple[str, str], tuple[int, float]]
    )
    """By unit and site: a step's number, and when it was over."""

    def __call__(self, moment: Progress) -> None:
        if moment.step is not None:
            place, seen = (moment.unit, moment.site), (moment.step, self.now())
            self.first.setdefault(place, seen)
            self.last[place] = seen

    @property
    def seconds_a_step(self) -> float | None:
        """Added up over the stretches; ``None`` where none was seen to take two."""
        found = [
            (self.last[place][1] - began) / (self.last[place][0] - step)
            for place, (step, began) in self.first.items()
            if self.last[place][0] > step
        ]
        return sum(found) if found else None
