"""``select`` of a tuning: which weights of a block may move; the others keep their codes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from qcompile.methods.tuning import Tuning
from qcompile.passes.block import Block, Choice, SolvedWeight
from qcompile.passes.input_sizes import input_sizes
from qcompile.passes.learned_weight import MayMove
from qcompile.quant.grouping import Grouping
from qcompile.quant.selections.candidate import Candidate
from qcompile.quant.selections.registry import movable


def selection(
    block: Block,
    tuning: Tuning,
    start: Choice,
    numbers: Sequence[int],
    generator: torch.Generator,
) -> MayMove:
    """The share is of each layer. ``start`` is how the block is quantized for its inputs."""
    sizes: dict[str, Tensor] = {}
    if tuning.select.name == "salient":
        sizes = input_sizes(block, start, numbers)

    def may_move(solved: SolvedWeight, view: Grouping, position: Tensor) -> Tensor | None:
        size = sizes.get(solved.storage)
        unknown = torch.ones((), device=position.device)
        candidate = Candidate(
            weight=view.view(solved.weight.float()),
            position=position,
            input_size=unknown if size is None else view.view(size),
            generator=generator,
        )
        return movable(tuning.select, candidate)

    return may_move
