"""How a learning rate falls: the share of the first rate that is left at a step."""

from math import cos, pi
from typing import assert_never

from torch import optim

from qcompile.methods.axes import Schedule


def share_left(schedule: Schedule, step: int, steps: int) -> float:
    """1 at step 0; ``linear`` and ``cosine`` would be 0 at ``steps``, one past the last."""
    done = step / max(steps, 1)
    match schedule:
        case "constant":
            return 1.0
        case "linear":
            return 1 - done
        case "cosine":
            return (1 + cos(pi * done)) / 2
        case _:
            assert_never(schedule)


def set_rate(optimizer: optim.Optimizer, share: float) -> None:
    """Of every group, from the rate that it was made with."""
    for group in optimizer.param_groups:
        first: float = group.setdefault("first_lr", group["lr"])
        group["lr"] = first * share
