"""What a stretch is fed with in a step of learning: ``inputs``, ``augment``, ``drop`` of a tuning.

In this order: both streams are changed alike, and the target with them; one of them is taken; and
elements of the other are mixed in.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from qcompile.methods.tuning import Tuning
from qcompile.passes.block import Block, float_choice
from qcompile.passes.distribution_correction import DistributionCorrection
from qcompile.passes.objective import Fed
from qcompile.passes.sweep_values import Value
from qcompile.quant.augments.registry import augment
from qcompile.quant.lsq import drop_mask

Inputs = dict[str, Value]
UNSEEN = 1e18
"""Masks of attention hold numbers beyond it, and are no activations."""


def kept_quantized(tuning: Tuning, step: int) -> float:
    """Probability that an element stays quantized where the tuning drops.

    ``gradual`` rises linearly to 1, which the last step has (as in Sony's MCT).
    """
    if tuning.drop != "gradual":
        return tuning.keep_quantized
    share = step / max(tuning.steps - 1, 1)
    return tuning.keep_quantized + (1 - tuning.keep_quantized) * share


class BlockInputs:
    def __init__(self, block: Block, tuning: Tuning, generator: torch.Generator) -> None:
        self.block = block
        self.tuning = tuning
        self.generator = generator
        self.draw = augment(tuning.augment.name)
        corrects = tuning.augment.name == "distribution_correction"
        self.correction = DistributionCorrection(block) if corrects else None
        self.float_choice = float_choice(block)

    def __call__(self, number: int, step: int) -> Fed:
        taken = self.block.batch(number)
        plain = {name: values[number] for name, values in self.block.plain.items()}
        target = self.block.targets[number]
        is_changed = self.draw is not None or self.correction is not None
        if is_changed:
            taken, plain = self._changed(number, taken, plain, len(target))
            with torch.no_grad():
                target = self.block.run(self.float_choice, self.block.own(plain))
        match self.tuning.inputs:
            case "float":
                taken = self.block.own(plain)
            case "mixed":
                taken = self._mixed(taken, plain, len(target))
            case "quantized":
                pass
        keep = kept_quantized(self.tuning, step)
        drops = self.tuning.drop in ("input", "both", "gradual") and keep < 1
        if drops:
            taken = self._dropped(taken, plain, keep)
        altered = drops or is_changed or self.tuning.inputs != "quantized"
        return Fed(taken, target, altered)

    def _changed(
        self, number: int, taken: Inputs, plain: Inputs, samples: int
    ) -> tuple[Inputs, Inputs]:
        taken, plain = dict(taken), dict(plain)
        found = list(_activations(taken, plain, samples))
        if self.correction is not None:
            moves = self.correction.change(number, {name: value for name, _, value in found})
            for name, quantized, value in found:
                if name in moves:
                    taken[name], plain[name] = quantized + moves[name], value + moves[name]
        if self.draw is not None:
            change = self.draw(samples, self.tuning.augment.amount, self.generator)
            for name, quantized, value in found:
                taken[name], plain[name] = change(quantized, value)
        return taken, plain

    def _mixed(self, taken: Inputs, plain: Inputs, samples: int) -> Inputs:
        """Each sample is of one stream or the other, as likely."""
        device = self.generator.device
        chosen = torch.rand(samples, generator=self.generator, device=device) < 0.5
        found = dict(taken)
        for name, quantized, value in _activations(taken, plain, samples):
            found[name] = torch.where(chosen.view(-1, *[1] * (value.dim() - 1)), quantized, value)
        return found

    def _dropped(self, taken: Inputs, plain: Inputs, keep: float) -> Inputs:
        """QDrop: each element of an input is that of the float stream with some probability."""
        found = dict(taken)
        for name, value in taken.items():
            other = plain[name]
            if not isinstance(value, Tensor) or not isinstance(other, Tensor):
                continue
            if value is not other and value.is_floating_point():
                mask = drop_mask(value, keep, self.generator)
                found[name] = value if mask is None else torch.where(mask, value, other)
        return found


def _activations(
    taken: Mapping[str, Value], plain: Mapping[str, Value], samples: int
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Inputs that hold an activation for each sample: neither sizes nor masks nor positions."""
    for name, value in plain.items():
        quantized = taken[name]
        if not isinstance(value, Tensor) or not isinstance(quantized, Tensor):
            continue
        is_float = value.is_floating_point() and value.dim() > 1 and value.shape[0] == samples
        if is_float and bool((value.abs() < UNSEEN).all()):
            yield name, quantized, value
