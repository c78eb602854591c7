"""Which values of its axes the engine executes. The language knows them all.

An axis gets a further value here when the code behind it is there, and not before.
"""

from collections.abc import Iterator
from typing import get_args

from qcompile.diagnostics.frozen import frozen
from qcompile.methods.axes import Learned, OptimizerName, Schedule, Solver, Variable
from qcompile.methods.tuning import Tuning

EXECUTED: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("partition", ("layer", "block")),
    ("solver", get_args(Solver)),
    ("variable", get_args(Variable)),
    ("learn", tuple(name for name in get_args(Learned) if name != "norm")),
    ("loss", ("mse", "mse(p=2)")),
    ("drop", ("none", "input", "act", "both")),
    ("augment", ("none",)),
    ("select", ("all",)),
    ("optimizer", get_args(OptimizerName)),
    ("schedule", get_args(Schedule)),
    ("samples", ("all",)),
    ("patience", ("none",)),
    ("inputs", ("quantized",)),
)
OF_ALL = ("partition", "solver")
OF_LAYERS = ("learn", "samples")
"""What the layer's solvers look at too; the others are of ``gradient`` alone."""
OF_STEPS = ("variable", "optimizer", "schedule")
"""What ``gram`` looks at too."""


@frozen
class Unexecuted:
    """A value that stands in a tuning, as a recipe writes it, and those that could."""

    setting: str
    value: str
    instead: tuple[str, ...]


def unexecuted(tuning: Tuning) -> Iterator[Unexecuted]:
    """Axes that no solver of ``tuning`` looks at can have any value: they are not executed."""
    for setting, known in EXECUTED:
        if _is_looked_at(setting, tuning):
            for value in _values(tuning, setting):
                if value not in known:
                    yield Unexecuted(setting, value, known)


def _is_looked_at(setting: str, tuning: Tuning) -> bool:
    by_layers = setting in OF_LAYERS and tuning.uses_moments
    by_steps = setting in OF_STEPS and tuning.takes_steps
    return setting in OF_ALL or tuning.learns or by_layers or by_steps


def _values(tuning: Tuning, setting: str) -> tuple[str, ...]:
    match setting:
        case "solver":
            return tuning.solvers
        case "learn":
            return tuning.learn
        case "loss":
            return tuple(map(str, tuning.loss))
        case "optimizer":
            return (tuning.optimizer.name,)
        case "samples":
            return ("all" if tuning.samples is None else str(tuning.samples),)
        case "patience":
            return ("none" if tuning.patience is None else str(tuning.patience),)
        case _:
            return (str(getattr(tuning, setting)),)
