"""A weight of a block while it is learned: what moves, on which grid, and what is kept of it."""

from collections.abc import Sequence

from torch import Tensor

from qcompile.methods.tuning import Tuning
from qcompile.passes.block import Rounded, SolvedWeight
from qcompile.quant.learned_code import learned_code
from qcompile.quant.variables.registry import variable
from qcompile.quant.variables.variable import Start


class LearnedWeight:
    def __init__(self, solved: SolvedWeight, tuning: Tuning, *, from_codes: bool) -> None:
        """Start at the float weight, or leaning towards the codes that ``solved`` starts from."""
        self.solved = solved
        self.code = learned_code(solved.start.code, tuning.learn)
        weight = solved.weight.float()
        if self.code.base is not None:
            weight = weight - self.code.base
        steps = self.code.grid.position_of(self.code.start()) if from_codes else None
        start = Start(self.code.view.view(weight), self.code.grid, steps, tuning)
        self.variable = variable(start)

    @property
    def of_grid(self) -> Sequence[Tensor]:
        """Parameters of the grid that are learned."""
        return self.code.grid.learned()

    def soft(self) -> Tensor:
        """The weight as the loss sees it."""
        found = self.code.view.restore(self.variable.value())
        return found if self.code.base is None else self.code.base + found

    def hard(self) -> Rounded:
        """Codes after each number has gone to the nearest one."""
        codes = self.code.grid.codes(self.variable.steps())
        return Rounded(self.code.stored(codes), self.solved.start.beside)

    @property
    def soft_share(self) -> float:
        return self.variable.soft_share
