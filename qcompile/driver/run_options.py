"""How a plan is to be carried out."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.driver.choose import Progress as Measuring
from qcompile.driver.choose import unheard
from qcompile.driver.progress import Listener
from qcompile.store.disk import Disk


def untold(why: Diagnostic) -> None:
    """Where nobody wants to know."""


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How to run. Only ``device`` and ``threads`` may change bits of the artifact."""

    work: Path = Path(".qcompile/runs")
    device: str = "cpu"
    threads: int | None = None
    replace: bool = False
    fresh: bool = False
    """Forget the saved state of an unfinished run of this plan."""
    listener: Listener = field(default=lambda moment: None)
    measuring: Measuring = unheard
    """Told of what is measured for the plan, where the subject is a recipe that chooses."""
    falling_back: Callable[[Diagnostic], None] = untold
    """Told when a requirement did not hold and the run goes on with what its `else` names."""
    should_stop: Callable[[], bool] = _never
    disk: Disk = field(default_factory=Disk)
