"""Which of three results of a reconstruction is kept: judged on batches that took no part in it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from qcompile.passes.block import Block, Choice
from qcompile.passes.objective import TINY, Objective

Kept = Literal["nearest", "start", "learned"]


@dataclass(frozen=True, slots=True)
class Losses:
    """On the held-out batches, each term relative to that of the start."""

    nearest: float
    start: float
    learned: float


def best(errors: Mapping[str, float]) -> Kept:
    """The learned result must be better; a tie goes to what was there before."""
    if errors["learned"] < min(errors["start"], errors["nearest"]):
        return "learned"
    return "start" if errors["start"] <= errors["nearest"] else "nearest"


@torch.no_grad()
def error(block: Block, choice: Choice | None, numbers: Sequence[int]) -> float:
    """Relative squared error of the hard block behind the quantized prefix."""
    if choice is None:
        return math.inf
    distance = power = 0.0
    for number in numbers:
        target = block.targets[number].float()
        found = block.run(choice, block.batch(number)).float()
        target, found = (block.padding.kept(one, block.output, number) for one in (target, found))
        distance += float((found - target).square().sum(dtype=torch.float64))
        power += float(target.square().sum(dtype=torch.float64))
    return distance / power if power else distance


def relative_losses(
    objective: Objective, choices: Mapping[str, Choice | None], numbers: Sequence[int]
) -> dict[str, float]:
    """The objective of each choice, in units of the start's."""
    means = {
        name: objective.means(choice, numbers)
        for name, choice in choices.items()
        if choice is not None
    }
    units = [max(value, TINY) for value in means["start"]]
    return {
        name: objective.relative(means[name], units) if name in means else math.inf
        for name in choices
    }
