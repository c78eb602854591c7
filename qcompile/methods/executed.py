"""Which values of its axes the engine executes. The language knows them all.

An axis gets a further value here when the code behind it is there, and not before.
"""

from collections.abc import Iterator

from qcompile.diagnostics.frozen import frozen
from qcompile.methods.tuning import Tuning

EXECUTED: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("partition", ("layer", "block")),
    ("solver", ("rtn", "optq", "cd", "gradient")),
    ("variable", ("gate",)),
    ("learn", ("rounding", "scale", "bias", "act_scale")),
    ("loss", ("mse", "mse(p=2)")),
    ("drop", ("none", "input", "act", "both")),
    ("augment", ("none",)),
    ("select", ("all",)),
    ("optimizer", ("adam",)),
    ("schedule", ("constant",)),
    ("samples", ("all",)),
    ("patience", ("none",)),
    ("inputs", ("quantized",)),
)


@frozen
class Unexecuted:
    """A value that stands in a tuning, as a recipe writes it, and those that could."""

    setting: str
    value: str
    instead: tuple[str, ...]


def unexecuted(tuning: Tuning) -> Iterator[Unexecuted]:
    """Axes that no solver of ``tuning`` looks at can have any value: they are not executed."""
    for setting, values in EXECUTED:
        if setting in ("partition", "solver") or tuning.learns:
            for value in _values(tuning, setting):
                if value not in values:
                    yield Unexecuted(setting, value, values)


def _values(tuning: Tuning, setting: str) -> tuple[str, ...]:
    match setting:
        case "solver":
            return tuning.solvers
        case "learn":
            return tuning.learn
        case "loss":
            return tuple(map(str, tuning.loss))
        case "samples":
            return ("all" if tuning.samples is None else str(tuning.samples),)
        case "patience":
            return ("none" if tuning.patience is None else str(tuning.patience),)
        case _:
            return (str(getattr(tuning, setting)),)
