"""Which values of its axes the engine executes. The language knows them all.

An axis gets a further value here when the code behind it is there, and not before.
"""

from collections.abc import Iterator
from typing import get_args

from qcompile.diagnostics.frozen import frozen
from qcompile.methods.axes import (
    AugmentName,
    DropPlace,
    Inputs,
    Learned,
    LossName,
    OptimizerName,
    Partition,
    Schedule,
    SelectName,
    Solver,
    Variable,
)
from qcompile.methods.tuning import Tuning

EXECUTED: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("partition", get_args(Partition)),
    ("solver", get_args(Solver)),
    ("variable", get_args(Variable)),
    ("learn", get_args(Learned)),
    ("loss", get_args(LossName)),
    ("drop", get_args(DropPlace)),
    ("augment", get_args(AugmentName)),
    ("select", get_args(SelectName)),
    ("optimizer", get_args(OptimizerName)),
    ("schedule", get_args(Schedule)),
    ("inputs", get_args(Inputs)),
)
OF_ALL = ("partition", "solver")
OF_LAYERS = ("learn",)
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
            return tuple(term.name for term in tuning.loss)
        case "augment":
            return (tuning.augment.name,)
        case "select":
            return (tuning.select.name,)
        case "optimizer":
            return (tuning.optimizer.name,)
        case _:
            return (str(getattr(tuning, setting)),)
