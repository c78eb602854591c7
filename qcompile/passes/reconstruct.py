"""Learn the rounding of a block so that its output stays near the float model's.

BRECQ (2102.05426) with AdaRound's gate (2004.10568), LSQ step sizes and QDrop's mixing
(2203.05740), as the tuning says. The hard result is kept only if it beats both its start and
nearest rounding on batches that took no part in the fit.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from qcompile.compat.cpu_features import multiplies_bf16
from qcompile.methods.axes import Schedule
from qcompile.methods.tuning import Tuning
from qcompile.passes.block import Block, Choice, Rounded, hard_choice
from qcompile.passes.held_out import split
from qcompile.passes.learned_quantizer import LearnedQuantizer
from qcompile.passes.learned_weight import LearnedWeight
from qcompile.passes.sweep_values import Value
from qcompile.quant.activation_quantizer import ActivationQuantizer
from qcompile.quant.lsq import drop_mask
from qcompile.quant.optimizers.rate import set_rate, share_left
from qcompile.quant.optimizers.registry import optimizer

TICKS = 20
"""How often progress is told, and divergence looked for, in one reconstruction."""
MOST_UNDECIDED = 0.01
"""Share of a layer's weights between codes above which rounding changes what was learned."""
Kept = Literal["nearest", "start", "learned"]


@dataclass(frozen=True, slots=True)
class Tick:
    """``loss`` is relative to the loss before the first step."""

    step: int
    steps: int
    loss: float


@dataclass(frozen=True, slots=True)
class Account:
    """What the guard saw: errors ``sum |q - f|^2 / sum |f|^2`` on the held-out batches."""

    nearest: float
    start: float
    learned: float
    kept: Kept
    steps: int
    soft_share: float
    """Largest share of a layer's weights that were between two codes when they were rounded."""
    held_out_samples: int
    """0 where there was a single batch, which had to serve for the fit too."""
    note: str = ""


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
    nearest = {solved.storage: solved.nearest for solved in block.solved}
    start = {solved.storage: solved.start for solved in block.solved}
    before = {
        (site.node, slot): quantizer
        for site in block.sites.values()
        for slot, quantizer in site.quantizers.items()
    }
    learner = _Learner(block, tuning, generator, fit)
    note = learner.run(tick)
    codes = {one.solved.storage: one.hard() for one in learner.weights}
    after = {place: learned.hard() for place, learned in learner.quantizers.items()}
    errors = {
        "nearest": error(block, hard_choice(block, nearest, before), held),
        "start": error(block, hard_choice(block, start, before), held),
        "learned": math.inf if note else error(block, hard_choice(block, codes, after), held),
    }
    kept = best(errors)
    account = Account(
        nearest=errors["nearest"],
        start=errors["start"],
        learned=errors["learned"],
        kept=kept,
        steps=learner.steps_done,
        soft_share=learner.soft_share,
        held_out_samples=0 if fit == held else sum(len(block.targets[n]) for n in held),
        note=note or ("one batch: it was fitted and judged" if fit == held else ""),
    )
    if kept == "learned":
        return Reconstruction(codes, after, account)
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


class _Learner:
    """One fit. Steps go through the batches in an order that is drawn anew each epoch."""

    def __init__(
        self, block: Block, tuning: Tuning, generator: torch.Generator, batches: list[int]
    ) -> None:
        self.block = block
        self.tuning = tuning
        self.generator = generator
        self.batches = batches
        from_codes = tuning.uses_moments
        self.weights = [
            LearnedWeight(solved, tuning, from_codes=from_codes) for solved in block.solved
        ]
        drops_act = tuning.drop in ("act", "both")
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
        self.steps_done = 0

    @property
    def soft_share(self) -> float:
        """The largest of any layer."""
        return max((one.soft_share for one in self.weights), default=0.0)

    def run(self, tick: Callable[[Tick], None]) -> str:
        """Returns why the result cannot be used, or nothing."""
        if not self.weights:
            return "no weight of its own"
        rules = self._rules()
        if not rules:
            return "nothing of it is learned"
        first: float | None = None
        ticking = tick_steps(self.tuning.steps)
        order = self._order()
        for step in range(self.tuning.steps):
            for one in self.weights:
                one.variable.prepare(step)
            loss = self._loss(next(order), step)
            scale = first if first is not None else max(float(loss.detach()), 1e-30)
            first = scale
            for rule, _ in rules:
                rule.zero_grad()
            (loss / scale).backward()
            for one in self.weights:
                one.variable.observe(step)
            for rule, schedule in rules:
                set_rate(rule, share_left(schedule, step, self.tuning.steps))
                rule.step()
            self.steps_done = step + 1
            if step in ticking:
                ratio = float(loss.detach()) / scale
                if not math.isfinite(ratio):
                    return f"the loss is not finite at step {step}; the start is kept"
                tick(Tick(step + 1, self.tuning.steps, ratio))
        return self._undecided()

    def _undecided(self) -> str:
        """A gate's result is left to the guard: short runs close the last gates at the end."""
        share = self.soft_share
        if self.tuning.variable == "gate" or share <= MOST_UNDECIDED:
            return ""
        return f"{share:.1%} of a layer lies between codes after {self.steps_done} steps"

    def _loss(self, number: int, step: int) -> Tensor:
        weights = {one.solved.storage: one.soft() for one in self.weights}
        beside = {path: value for one in self.weights for path, value in one.beside().items()}
        choice = Choice(weights, beside, self.quantizers)
        with _precision(self.tuning, self.block.device):
            found = self.block.run(choice, self._inputs(number))
        return (found.float() - self.block.targets[number]).square().mean()

    def _inputs(self, number: int) -> dict[str, Value]:
        """QDrop: each element of an input is that of the float stream with some probability."""
        taken = self.block.batch(number)
        if self.tuning.drop not in ("input", "both"):
            return taken
        for name, value in taken.items():
            plain = self.block.plain[name][number]
            if not isinstance(value, Tensor) or not isinstance(plain, Tensor):
                continue
            if value is not plain and value.is_floating_point():
                mask = drop_mask(value, self.tuning.keep_quantized, self.generator)
                taken[name] = value if mask is None else torch.where(mask, value, plain)
        return taken

    def _rules(self) -> list[tuple[torch.optim.Optimizer, Schedule]]:
        """Of the variables as the tuning says; of all else Adam along a cosine (BRECQ, QDrop)."""
        tuning = self.tuning
        found: list[tuple[torch.optim.Optimizer, Schedule]] = []
        variables = [part for one in self.weights for part in one.variable.learned()]
        if variables:
            rule = optimizer(variables, tuning.optimizer, tuning.rounding_lr)
            found.append((rule, tuning.schedule))
        of_act = {id(one): one.log_scale for one in self.quantizers.values()}
        parts = [
            (tuning.act_lr, [one for one in of_act.values() if one is not None]),
            (tuning.grid_lr, [part for one in self.weights for part in one.of_grid]),
            (tuning.bias_lr, [part for one in self.weights for part in one.of_bias]),
        ]
        groups = [
            {"lr": lr, "params": [one for one in group if one.requires_grad]} for lr, group in parts
        ]
        groups = [group for group in groups if group["params"]]
        if groups:
            found.append((torch.optim.Adam(groups, fused=True), "cosine"))
        return found

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
