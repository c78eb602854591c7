"""Learn the rounding of a block so that its output stays near the float model's.

BRECQ (2102.05426) with AdaRound's gate (2004.10568), LSQ step sizes and QDrop's mixing
(2203.05740), as the tuning says. The hard result is kept only if it beats both its start and
nearest rounding on batches that took no part in the fit.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from qcompile.compat.cpu_features import multiplies_bf16
from qcompile.methods.tuning import Tuning
from qcompile.passes.block import Block, Choice, Rounded, hard_choice, set_beside
from qcompile.passes.block_inputs import BlockInputs, kept_quantized
from qcompile.passes.early_stop import EarlyStop, Learned
from qcompile.passes.held_out import split
from qcompile.passes.learned import GatedWeight, LearnedQuantizer
from qcompile.passes.objective import TINY, Objective
from qcompile.passes.selection import selection
from qcompile.quant.activation_quantizer import ActivationQuantizer
from qcompile.quant.rounding_gate import BetaSchedule

TICKS = 20
"""How often progress is told, and divergence looked for, in one reconstruction."""
Kept = Literal["nearest", "start", "learned"]


@dataclass(frozen=True, slots=True)
class Tick:
    """``loss`` is relative to the loss before the first step: each term to its own."""

    step: int
    steps: int
    loss: float


@dataclass(frozen=True, slots=True)
class Losses:
    """On the held-out batches, each term relative to that of the start."""

    nearest: float
    start: float
    learned: float


@dataclass(frozen=True, slots=True)
class Account:
    """What the guard saw: errors ``sum |q - f|^2 / sum |f|^2`` on the held-out batches."""

    nearest: float
    start: float
    learned: float
    kept: Kept
    steps: int
    soft_share: float
    """Largest share of a layer's gates that were undecided when they were closed."""
    held_out_samples: int
    """0 where there was a single batch, which had to serve for the fit too."""
    note: str = ""
    losses: Losses | None = None
    """What decided, where the loss is another than the mean square."""


@dataclass(frozen=True, slots=True, eq=False)
class Reconstruction:
    codes: Mapping[str, Rounded]
    """By storage."""
    quantizers: Mapping[tuple[str, str], ActivationQuantizer]
    """By node and slot."""
    account: Account


def reconstruct(
    block: Block, tuning: Tuning, generator: torch.Generator, tick: Callable[[Tick], None]
) -> Reconstruction:
    """Fit on all batches but the held-out ones; see ``Account`` for what is kept."""
    fit, held = split(len(block.targets))
    fit, watched = split(len(fit)) if tuning.patience is not None else (fit, [])
    nearest = {solved.storage: solved.nearest for solved in block.solved}
    start = {solved.storage: solved.start for solved in block.solved}
    before = {
        (site.node, slot): quantizer
        for site in block.sites.values()
        for slot, quantizer in site.quantizers.items()
    }
    from_start = hard_choice(block, start, before)
    objective = Objective(block, tuning.loss, from_start)
    learner = _Learner(block, tuning, generator, objective, from_start, fit)
    stop = None
    if watched and objective.is_reachable:
        stop = EarlyStop(objective, tuning, from_start, watched)
    note = learner.run(tick, stop)
    learned = stop.best if stop is not None and stop.best is not None else learner.hard()
    choices = {
        "nearest": hard_choice(block, nearest, before),
        "start": from_start,
        "learned": None if note else hard_choice(block, learned.codes, learned.quantizers),
    }
    errors = {name: _error(block, choice, held) for name, choice in choices.items()}
    told = not objective.is_mean_square and objective.is_reachable
    losses = _losses(objective, choices, held) if told else None
    kept = best(errors if losses is None else losses)
    account = Account(
        nearest=errors["nearest"],
        start=errors["start"],
        learned=errors["learned"],
        kept=kept,
        steps=learner.steps_done,
        soft_share=learned.soft_share,
        held_out_samples=0 if fit == held else sum(len(block.targets[n]) for n in held),
        note=note or ("one batch: it was fitted and judged" if fit == held else ""),
        losses=None if losses is None else Losses(**losses),
    )
    if kept == "learned":
        return Reconstruction(learned.codes, learned.quantizers, account)
    return Reconstruction(nearest if kept == "nearest" else start, before, account)


def tick_steps(steps: int) -> frozenset[int]:
    """Steps (from 0) after which progress is told: about ``TICKS``, the last one among them."""
    every = max(steps // TICKS, 1)
    return frozenset({*range(0, steps, every), *([steps - 1] if steps else [])})


def best(errors: Mapping[str, float]) -> Kept:
    """The learned result must be better; a tie goes to what was there before."""
    if errors["learned"] < min(errors["start"], errors["nearest"]):
        return "learned"
    return "start" if errors["start"] <= errors["nearest"] else "nearest"


def _error(block: Block, choice: Choice | None, numbers: Sequence[int]) -> float:
    return math.inf if choice is None else error(block, choice, numbers)


@torch.no_grad()
def error(block: Block, choice: Choice, numbers: Sequence[int]) -> float:
    """Relative squared error of the hard block behind the quantized prefix."""
    distance = power = 0.0
    for number in numbers:
        target = block.targets[number].float()
        found = block.run(choice, block.batch(number)).float()
        distance += float((found - target).square().sum(dtype=torch.float64))
        power += float(target.square().sum(dtype=torch.float64))
    return distance / power if power else distance


def _losses(
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


class _Learner:
    """One fit. Steps go through the batches in an order that is drawn anew each epoch."""

    def __init__(
        self,
        block: Block,
        tuning: Tuning,
        generator: torch.Generator,
        objective: Objective,
        start: Choice,
        batches: list[int],
    ) -> None:
        self.block = block
        self.tuning = tuning
        self.generator = generator
        self.objective = objective
        self.batches = batches
        self.inputs = BlockInputs(block, tuning, generator)
        from_codes = tuning.uses_moments
        may_move = selection(block, tuning, start, batches, generator)
        self.gates = [
            GatedWeight(solved, from_codes=from_codes, may_move=may_move) for solved in block.solved
        ]
        self.beside = set_beside(solved.start for solved in block.solved)
        drops_act = tuning.drop in ("act", "both", "gradual")
        places = [
            ((site.node, slot), quantizer)
            for site in block.sites.values()
            for slot, quantizer in site.quantizers.items()
        ]
        learned = {
            id(quantizer): LearnedQuantizer.of(
                quantizer,
                learn="act_scale" in tuning.learn,
                keep_quantized=tuning.keep_quantized if drops_act else 1.0,
                generator=generator,
            )
            for _, quantizer in places
        }
        # operands that share a range share the quantizer that learns it
        self.quantizers = {place: learned[id(quantizer)] for place, quantizer in places}
        self.schedule = BetaSchedule(
            tuning.steps, tuning.warmup, tuning.beta_start, tuning.beta_end
        )
        self.steps_done = 0

    def hard(self) -> Learned:
        """With every gate closed to its nearer side."""
        return Learned(
            codes={gated.solved.storage: gated.hard() for gated in self.gates},
            quantizers={place: learned.hard() for place, learned in self.quantizers.items()},
            soft_share=max((gated.soft_share for gated in self.gates), default=0.0),
        )

    def run(self, tick: Callable[[Tick], None], stop: EarlyStop | None) -> str:
        """Returns why the result cannot be used, or nothing."""
        if not self.gates:
            return "no weight of its own"
        if not self.objective.is_reachable:
            return "the network's output does not depend on it, and the loss is about that"
        gates, scales = self._optimizers()
        units: list[float] = []
        ticking = tick_steps(self.tuning.steps)
        order = self._order()
        for step in range(self.tuning.steps):
            values = self._values(next(order), step)
            units = units or [max(float(value.detach()), TINY) for value in values]
            loss = self.objective.total(values, units)
            gates.zero_grad()
            if scales is not None:
                scales.zero_grad()
            loss.backward()
            self._regularise(step)
            gates.step()
            if scales is not None:
                self._cool(scales, step)
                scales.step()
            self.steps_done = step + 1
            if step in ticking:
                shown = float(loss.detach())
                if not math.isfinite(shown):
                    return f"the loss is not finite at step {step}; the start is kept"
                tick(Tick(step + 1, self.tuning.steps, shown / self.objective.weight))
            if stop is not None and stop.is_due(step) and stop.is_over(step, self.hard()):
                break
        return ""

    def _values(self, number: int, step: int) -> list[Tensor]:
        """Of each term of the loss, for the weights as they are now."""
        beta = self.schedule.at(step)
        weights = {gated.solved.storage: gated.soft(beta) for gated in self.gates}
        choice = Choice(weights, self.beside, self.quantizers)
        if self.tuning.drop == "gradual":
            for quantizer in self.quantizers.values():
                quantizer.keep_quantized = kept_quantized(self.tuning, step)
        fed = self.inputs(number, step)
        with _precision(self.tuning, self.block.device):
            pairs = self.objective.pairs(partial(self.block.run, choice), fed, number)
        return self.objective.values(pairs)

    def _regularise(self, step: int) -> None:
        """Measure the gradient in the last quarter of the warm-up, then turn hardening on."""
        begin = math.ceil(self.tuning.warmup * self.tuning.steps)
        if 0.75 * begin <= step < max(begin, 1):
            for gated in self.gates:
                gated.measure()
        if step == max(begin - 1, 0):
            for gated in self.gates:
                gated.harden(self.tuning.hardening)

    def _optimizers(self) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer | None]:
        variables = [gated.variable for gated in self.gates]
        gates = torch.optim.Adam(variables, lr=self.tuning.rounding_lr, fused=True)
        scales = {id(one): one.log_scale for one in self.quantizers.values()}
        learned = [one for one in scales.values() if one is not None and one.requires_grad]
        if not learned:
            return gates, None
        return gates, torch.optim.Adam(learned, lr=self.tuning.act_lr, fused=True)

    def _cool(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Cosine to zero (BRECQ and QDrop do the same)."""
        for group in optimizer.param_groups:
            share = step / max(self.tuning.steps, 1)
            group["lr"] = self.tuning.act_lr * (1 + math.cos(math.pi * share)) / 2

    def _order(self) -> Iterator[int]:
        while True:
            source = self.generator
            drawn = torch.randperm(len(self.batches), generator=source, device=source.device)
            yield from (self.batches[place] for place in drawn.tolist())


def _precision(tuning: Tuning, device: torch.device) -> AbstractContextManager[object]:
    if tuning.precision == "fp32" or (tuning.precision == "auto" and not fast_bf16(device)):
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def fast_bf16(device: torch.device) -> bool:
    """The machine multiplies bf16 matrices in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and multiplies_bf16()
