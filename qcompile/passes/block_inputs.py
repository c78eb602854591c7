"""What a stretch is fed with in a step of learning: ``drop`` of a tuning."""

import torch
from torch import Tensor

from qcompile.methods.tuning import Tuning
from qcompile.passes.block import Block
from qcompile.passes.objective import Fed
from qcompile.passes.sweep_values import Value
from qcompile.quant.lsq import drop_mask


class BlockInputs:
    def __init__(self, block: Block, tuning: Tuning, generator: torch.Generator) -> None:
        self.block = block
        self.tuning = tuning
        self.generator = generator

    def __call__(self, number: int) -> Fed:
        taken = self.block.batch(number)
        drops = self.tuning.drop in ("input", "both")
        if drops:
            plain = {name: values[number] for name, values in self.block.plain.items()}
            taken = self._dropped(taken, plain)
        return Fed(taken, self.block.targets[number], altered=drops)

    def _dropped(self, taken: dict[str, Value], plain: dict[str, Value]) -> dict[str, Value]:
        """QDrop: each element of an input is that of the float stream with some probability."""
        found = dict(taken)
        for name, value in taken.items():
            other = plain[name]
            if not isinstance(value, Tensor) or not isinstance(other, Tensor):
                continue
            if value is not other and value.is_floating_point():
                mask = drop_mask(value, self.tuning.keep_quantized, self.generator)
                found[name] = value if mask is None else torch.where(mask, value, other)
        return found
