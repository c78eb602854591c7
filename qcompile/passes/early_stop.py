"""``patience`` of a tuning: look at the hard result now and then, keep the best, stop in time."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from qcompile.methods.tuning import Tuning
from qcompile.passes.block import Block, Choice, Rounded, hard_choice
from qcompile.passes.objective import TINY, Objective
from qcompile.quant.activation_quantizer import ActivationQuantizer

LOOKS = 20
"""In one reconstruction, and more where the patience is shorter."""


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """A hard result, as it would be on disk."""

    codes: Mapping[str, Rounded]
    """By storage."""
    quantizers: Mapping[tuple[str, str], ActivationQuantizer]
    """By node and slot."""
    soft_shares: Mapping[str, float]
    """By storage: share of a layer's numbers that were between two codes when they were rounded."""
    beside: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    """Parameters of norms, by path."""

    @property
    def soft_share(self) -> float:
        """The largest."""
        return max(self.soft_shares.values(), default=0.0)

    def choice(self, block: Block) -> Choice:
        return hard_choice(block, self.codes, self.quantizers, self.beside)


class EarlyStop:
    """Judges by the loss that is fitted, on batches that take no part in the steps."""

    def __init__(
        self, objective: Objective, tuning: Tuning, start: Choice, watched: Sequence[int]
    ) -> None:
        assert tuning.patience is not None
        self.objective = objective
        self.watched = watched
        self.patience = tuning.patience
        self.every = max(min(tuning.steps // LOOKS, tuning.patience), 1)
        self.best: Learned | None = None
        self._units = [max(mean, TINY) for mean in objective.means(start, watched)]
        self._least = math.inf
        # before the regulariser acts few gates close, and the hard result hardly moves
        self._since = math.ceil(tuning.warmup * tuning.steps)

    def is_due(self, step: int) -> bool:
        return (step + 1) % self.every == 0

    def is_over(self, step: int, found: Learned) -> bool:
        """Look at what there is after ``step``; whether no better was found for too long."""
        choice = found.choice(self.objective.block)
        loss = self.objective.relative(self.objective.means(choice, self.watched), self._units)
        if loss < self._least:
            self._least, self.best = loss, found
            self._since = max(self._since, step)
        return step - self._since >= self.patience
