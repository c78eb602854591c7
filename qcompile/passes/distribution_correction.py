"""PD-Quant's distribution correction (arXiv 2212.07048, section 3.3): inputs as in training.

A few calibration samples are not distributed like the training data. Before a stretch is learned
its cached float inputs are moved a little, so that what its batch norms make has the mean and the
spread that it had in training. The stretch's quantized inputs are moved by as much.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.source import Span
from qcompile.passes.block import Block, float_choice
from qcompile.passes.norm_statistics import NormStatistics, statistics
from qcompile.passes.sweep_values import Value
from qcompile.policy.tune_rules import illegal

STEPS = 50
RATE = 1e-2
"""Of Adam, in standard deviations of the input. The paper's code takes 500 steps of 1e-3."""
CLOSENESS = 0.02
"""Mean squared change, in variances of the input, that costs as much as a mismatch of one."""


class DistributionCorrection:
    """Changes of a stretch's inputs, found once for each batch that is asked for."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self.statistics = statistics(block.module, block.nodes)
        self._float = float_choice(block)
        self._found: dict[int, Mapping[str, Tensor]] = {}

    def change(self, number: int, activations: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """What is added to the float inputs ``activations``; nothing without norms."""
        if not self.statistics or not activations:
            return {}
        if number not in self._found:
            self._found[number] = self._corrected(number, activations)
        return self._found[number]

    def _corrected(self, number: int, activations: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        plain: dict[str, Value] = {
            name: values[number] for name, values in self.block.plain.items()
        }
        units = {name: value.float().std().clamp(min=1e-12) for name, value in activations.items()}
        moves = {
            name: torch.zeros_like(value, dtype=torch.float32).requires_grad_()
            for name, value in activations.items()
        }
        rule = torch.optim.Adam(moves.values(), lr=RATE)

        def changed() -> dict[str, Tensor]:
            return {
                name: (value + units[name] * moves[name]).to(value.dtype)
                for name, value in activations.items()
            }

        for _ in range(STEPS):
            rule.zero_grad()
            far = torch.stack([move.square().mean() for move in moves.values()]).sum()
            (self._mismatch({**plain, **changed()}) + far / CLOSENESS).backward()
            rule.step()
        return {name: value.detach() - activations[name] for name, value in changed().items()}

    def _mismatch(self, inputs: dict[str, Value]) -> Tensor:
        """Mean over the norms; each in units of its mean spread, so that no channel is a unit."""
        parts: list[Tensor] = []
        for name, value in self.block.walk(self._float, self.block.own(inputs)):
            wanted = self.statistics.get(name)
            if wanted is not None and isinstance(value, Tensor):
                # a copy: the node behind may work in place
                parts.append(mismatch(value.float().clone(), wanted))
        return torch.stack(parts).mean()


def mismatch(value: Tensor, wanted: NormStatistics) -> Tensor:
    """Squared differences of mean and deviation, mean over the channels, in mean deviations."""
    channels = value.movedim(1, 0).flatten(1)
    unit = wanted.deviation.float().mean().clamp(min=1e-12)
    mean = (channels.mean(1) - wanted.mean.to(value.device)) / unit
    deviation = (channels.std(1, correction=0) - wanted.deviation.to(value.device)) / unit
    return (mean.square() + deviation.square()).mean()


def nothing_to_correct(augment: Span) -> Diagnostic:
    """QR405."""
    return illegal(
        "`distribution_correction` matches batch norms, and no block that is learned has one",
        augment,
        "use `noise`, `mixup` or `cutmix`, or leave `augment` out",
    )
