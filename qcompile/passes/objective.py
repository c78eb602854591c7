"""What a stretch is fitted to, and judged by: the terms of a tuning's loss, added up."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qcompile.methods.axes import LossTerm
from qcompile.passes.block import Block, Choice
from qcompile.passes.sensitivity import OwnOutputs, curvatures, gradients
from qcompile.passes.sweep_values import Value
from qcompile.quant.losses.pair import Pair
from qcompile.quant.losses.registry import Loss, loss

TINY = 1e-30
Run = Callable[[Mapping[str, Value]], Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Fed:
    """One batch as a step is fed with it."""

    inputs: Mapping[str, Value]
    target: Tensor
    altered: bool = False
    """``inputs`` are not those behind the quantized prefix, which the deployed stretch will see."""


class Objective:
    """Terms whose weight is 0 are left out.

    What a term needs beside the stretch's output is computed once, here, for every batch: float
    outputs of the network, derivatives as large as the targets. All of it goes with the stretch.
    """

    def __init__(self, block: Block, terms: Sequence[LossTerm], start: Choice) -> None:
        """Derivatives are taken where ``start`` leads."""
        self.block = block
        self.terms = [
            (loss(term.name), term, weight) for term in terms if (weight := _weight(term))
        ]
        self.is_reachable = block.tail is not None or not any(
            row.sees != "output" for row, _, _ in self.terms
        )
        self._sensitivities = self._derivatives(start) if self.is_reachable else {}
        self._decisions: dict[int, Tensor] = {}

    @property
    def is_mean_square(self) -> bool:
        """The relative squared error of the output says the same."""
        return all(row.name == "mse" and term.p in (None, 2) for row, term, _ in self.terms)

    @property
    def weight(self) -> float:
        """Of all terms: their sum before the first step."""
        return sum(weight for _, _, weight in self.terms)

    def pairs(self, run: Run, fed: Fed, number: int) -> list[Pair]:
        """What each term compares in batch ``number``; ``run`` gives the stretch's output."""
        views = {row.sees for row, _, _ in self.terms}
        found = run(fed.inputs) if views - {"network"} else None
        seen = found
        if "network" in views and (found is None or fed.altered):
            seen = run(self.block.batch(number))
        return [self._pair(row, found, seen, fed, number) for row, _, _ in self.terms]

    def values(self, pairs: Sequence[Pair]) -> list[Tensor]:
        """Of each term, as it is."""
        return [row.of(pair, term) for (row, term, _), pair in zip(self.terms, pairs, strict=True)]

    def total(self, values: Sequence[Tensor], units: Sequence[float]) -> Tensor:
        """The weighted sum, each value in its unit."""
        weights = [weight for _, _, weight in self.terms]
        rows = zip(weights, values, units, strict=True)
        return torch.stack([weight * (value / unit) for weight, value, unit in rows]).sum()

    def relative(self, means: Sequence[float], units: Sequence[float]) -> float:
        """The same of what ``means`` gives."""
        rows = zip(self.terms, means, units, strict=True)
        return sum(weight * (mean / unit) for (_, _, weight), mean, unit in rows)

    @torch.no_grad()
    def means(self, choice: Choice, numbers: Sequence[int]) -> list[float]:
        """Of each term over whole batches, behind the quantized prefix."""
        sums = torch.zeros(len(self.terms), dtype=torch.float64)
        for number in numbers:
            fed = Fed(self.block.batch(number), self.block.targets[number])
            values = self.values(self.pairs(lambda x: self.block.run(choice, x), fed, number))
            sums += torch.stack(values).double().cpu() * len(fed.target)
        return (sums / sum(len(self.block.targets[number]) for number in numbers)).tolist()

    def _pair(
        self, row: Loss, found: Tensor | None, seen: Tensor | None, fed: Fed, number: int
    ) -> Pair:
        padding, block = self.block.padding, self.block
        if row.sees == "network":
            assert seen is not None
            assert block.tail is not None
            own = OwnOutputs(block.tail, padding, number)
            return Pair(own(block.tail(seen, number)), own(self._decision(number)))
        assert found is not None
        weights = self._sensitivities.get(row.sees)
        take = padding.silenced if row.by_sample or weights is not None else padding.kept
        one, other = found.float(), fed.target.float()
        return Pair(
            take(one, block.output, number),
            take(other, block.output, number),
            None if weights is None else weights[number],
        )

    def _decision(self, number: int) -> Tensor:
        """The float network's output, found once."""
        assert self.block.tail is not None
        if number not in self._decisions:
            with torch.no_grad():
                decision = self.block.tail(self.block.targets[number], number, plain=True)
            self._decisions[number] = decision
        return self._decisions[number]

    def _derivatives(self, start: Choice) -> dict[str, list[Tensor]]:
        views = {row.sees for row, _, _ in self.terms}
        found: dict[str, list[Tensor]] = {}
        if self.block.tail is None:
            return found
        if "gradient" in views:
            with torch.no_grad():
                count = range(len(self.block.targets))
                at = [self.block.run(start, self.block.batch(number)) for number in count]
            targets, padding = self.block.targets, self.block.padding
            found["gradient"] = gradients(self.block.tail, at, targets, padding)
        if "curvature" in views:
            targets, padding = self.block.targets, self.block.padding
            found["curvature"] = curvatures(self.block.tail, targets, padding)
        return found


def _weight(term: LossTerm) -> float:
    return loss(term.name).weight if term.weight is None else term.weight
