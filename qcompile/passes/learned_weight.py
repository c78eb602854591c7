"""A weight of a block while it is learned: what moves, on which grid, and what is kept of it."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from qcompile.methods.tuning import Tuning
from qcompile.passes.block import Rounded, SolvedWeight
from qcompile.passes.learned_parameter import LearnedParameter
from qcompile.quant.grouping import Grouping
from qcompile.quant.learned_code import learned_code
from qcompile.quant.variables.registry import variable
from qcompile.quant.variables.variable import Start

MayMove = Callable[[SolvedWeight, Grouping, Tensor], Tensor | None]
"""From a weight, its view and its positions in codes to a mask in the view; ``None``: all may."""


class LearnedWeight:
    def __init__(
        self, solved: SolvedWeight, tuning: Tuning, *, from_codes: bool, may_move: MayMove
    ) -> None:
        """Start at the float weight, or leaning towards the codes that ``solved`` starts from.

        What may not move stays at these codes.
        """
        self.solved = solved
        self.code = learned_code(solved.start.code, tuning.of_grid)
        weight = solved.weight.float()
        if self.code.base is not None:
            weight = weight - self.code.base
        grid, viewed = self.code.grid, self.code.view.view(weight)
        self.kept = grid.position_of(self.code.start())
        self.moves = may_move(solved, self.code.view, grid.position(viewed).detach())
        steps = self.kept if from_codes else None
        self.variable = variable(Start(viewed, grid, steps, tuning, moves=self.moves))
        learns_bias = "bias" in tuning.learn
        self.biases = {
            path: _bias(value, solved, learns=learns_bias)
            for path, value in solved.start.beside.items()
        }

    @property
    def of_bias(self) -> Sequence[Tensor]:
        return [bias.shift for bias in self.biases.values()]

    @property
    def of_grid(self) -> Sequence[Tensor]:
        """Parameters of the grid that are learned."""
        return self.code.grid.learned()

    def soft(self) -> Tensor:
        """The weight as the loss sees it, in the model's type."""
        value = self.variable.value()
        if self.moves is not None:
            value = torch.where(self.moves, value, self.code.grid.at(self.kept))
        found = self.code.view.restore(value)
        found = found if self.code.base is None else self.code.base + found
        return found.to(self.solved.weight.dtype)

    def beside(self) -> Mapping[str, Tensor]:
        return {path: bias() for path, bias in self.biases.items()}

    @property
    def is_reached(self) -> bool:
        """The loss depends on it, as its last gradient tells."""
        return any(part.grad is not None for part in self.variable.learned())

    def hard(self) -> Rounded:
        """Codes after each number has gone to the nearest one."""
        steps = self.variable.steps()
        if self.moves is not None:
            steps = torch.where(self.moves, steps, self.kept)
        codes = self.code.grid.codes(steps)
        return Rounded(self.code.stored(codes), {k: v.detach() for k, v in self.beside().items()})

    @property
    def soft_share(self) -> float:
        return self.variable.soft_share


def _bias(value: Tensor, solved: SolvedWeight, *, learns: bool) -> LearnedParameter:
    """In norms of a row: what an input of size one is multiplied by."""
    rows = solved.weight.float().movedim(solved.plan.output_axis, 0).flatten(1)
    unit = torch.linalg.vector_norm(rows, dim=1).mean()
    return LearnedParameter.of(value, unit, learns=learns)
