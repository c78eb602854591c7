"""Which values of its axes the engine executes. The language knows them all.

An axis gets a further value here when the code behind it is there, and not before.
"""

from collections.abc import Iterator
from typing import get_args

from qcompile.diagnostics.frozen import frozen
from qcompile.methods.axes import DropPlace, Inputs, LossName, SelectName
from qcompile.methods.tuning import Tuning

EXECUTED: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("partition", ("layer", "block")),
    ("solver", ("rtn", "optq", "cd", "gradient")),
    ("variable", ("gate",)),
    ("learn", ("rounding", "scale", "bias", "act_scale")),
    ("loss", get_args(LossName)),
    ("drop", get_args(DropPlace)),
    ("augment", ("none", "noise", "mixup", "cutmix")),
    ("select", get_args(SelectName)),
    ("optimizer", ("adam",)),
    ("schedule", ("constant",)),
    ("inputs", get_args(Inputs)),
)
OF_ALL = ("partition", "solver")
OF_LAYERS = ("learn",)
"""What the layer's solvers look at too; the others are of ``gradient`` alone."""


@frozen
class Unexecuted:
    """A value that stands in a tuning, as a recipe writes it, and those that could."""

    setting: str
    value: str
    instead: tuple[str, ...]


def unexecuted(tuning: Tuning) -> Iterator[Unexecuted]:
    """Axes that no solver of ``tuning`` looks at can have any value: they are not executed."""
    for setting, known in EXECUTED:
        if setting in OF_ALL or tuning.learns or (setting in OF_LAYERS and tuning.uses_moments):
            values = tuple(value for value in known if _has_solver(value, tuning))
            for value in _values(tuning, setting):
                if value not in values:
                    yield Unexecuted(setting, value, values)


def _has_solver(value: str, tuning: Tuning) -> bool:
    """``gradient`` learns no scale and no bias of a weight; the layer's solvers do."""
    return tuning.uses_moments or value not in ("scale", "bias")


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
        case _:
            return (str(getattr(tuning, setting)),)
