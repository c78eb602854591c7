"""Learn the rounding of a block so that its output stays near the float model's.

BRECQ (2102.05426) with AdaRound's gate (2004.10568), LSQ step sizes and QDrop's mixing
(2203.05740), as the tuning says. The hard result is kept only if it beats both its start and
nearest rounding on batches that took no part in the fit.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from qcompile.compat.cpu_features import multiplies_bf16
from qcompile.methods.axes import Schedule
from qcompile.methods.tuning import Tuning
from qcompile.passes.block import Block, Choice, Rounded, hard_choice
from qcompile.passes.block_inputs import BlockInputs, kept_quantized
from qcompile.passes.early_stop import EarlyStop, Learned
from qcompile.passes.guard import Kept, Losses, best, error, relative_losses
from qcompile.passes.held_out import ONE_BATCH, split
from qcompile.passes.learned_parameter import learned_norm
from qcompile.passes.learned_quantizer import LearnedQuantizer
from qcompile.passes.learned_weight import LearnedWeight
from qcompile.passes.objective import TINY, Objective
from qcompile.passes.selection import selection
from qcompile.quant.activation_quantizer import ActivationQuantizer
from qcompile.quant.optimizers.rate import set_rate, share_left
from qcompile.quant.optimizers.registry import optimizer

TICKS = 20
"""How often progress is told, and divergence looked for, in one reconstruction."""
MOST_UNDECIDED = 0.01
"""Share of a layer's weights between codes above which rounding changes what was learned."""


@dataclass(frozen=True, slots=True)
class Tick:
    """``loss`` is relative to the loss before the first step: each term to its own."""

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
    soft_shares: Mapping[str, float]
    """The same of each layer, by the storage of its weight."""
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
    beside: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    """Parameters of norms that are no longer the model's, by path."""


def reconstruct(
    block: Block,
    tuning: Tuning,
    generator: torch.Generator,
    tick: Callable[[Tick], None],
    judging: int | None = None,
) -> Reconstruction:
    """Fit on all batches but the held-out ones; see ``Account`` for what is kept."""
    fit, held = split(len(block.targets), judging)
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
    learned = Learned(start, before, soft_shares={}) if note else learner.hard()
    if stop is not None and stop.best is not None:
        learned = stop.best
    note = note or _undecided(tuning, learned)
    choices = {
        "nearest": hard_choice(block, nearest, before),
        "start": from_start,
        "learned": None if note else learned.choice(block),
    }
    errors = {name: error(block, choice, held) for name, choice in choices.items()}
    told = not objective.is_mean_square and objective.is_reachable
    losses = relative_losses(objective, choices, held) if told else None
    kept = best(errors if losses is None else losses)
    account = Account(
        nearest=errors["nearest"],
        start=errors["start"],
        learned=errors["learned"],
        kept=kept,
        steps=learner.steps_done,
        soft_share=learned.soft_share,
        soft_shares=learned.soft_shares,
        held_out_samples=0 if fit == held else sum(len(block.targets[n]) for n in held),
        note=note or "; ".join(_remarks(block, tuning, learned, judged=held, fitted=fit)),
        losses=None if losses is None else Losses(**losses),
    )
    if kept == "learned":
        return Reconstruction(learned.codes, learned.quantizers, account, learned.beside)
    return Reconstruction(nearest if kept == "nearest" else start, before, account)


def _undecided(tuning: Tuning, learned: Learned) -> str:
    """A gate's result is left to the guard, which judges it with all gates closed."""
    if tuning.variable == "gate" or learned.soft_share <= MOST_UNDECIDED:
        return ""
    return f"{learned.soft_share:.1%} of a layer lies between codes when learning ends"


def _remarks(
    block: Block, tuning: Tuning, learned: Learned, *, judged: list[int], fitted: list[int]
) -> Iterator[str]:
    types = _other_types(block)
    if types and tuning.precision != "auto":
        yield f"`precision` has no effect on a model in {' and '.join(types)}"
    if fitted == judged:
        yield ONE_BATCH
    if learned.soft_share > MOST_UNDECIDED:
        layer = max(learned.soft_shares, key=lambda name: learned.soft_shares[name])
        yield f"{learned.soft_share:.1%} of `{layer}` was undecided; it is judged as rounded"


def tick_steps(steps: int) -> frozenset[int]:
    """Steps (from 0) after which progress is told: about ``TICKS``, the last one among them."""
    every = max(steps // TICKS, 1)
    return frozenset({*range(0, steps, every), *([steps - 1] if steps else [])})


Rules = list[tuple[torch.optim.Optimizer, Schedule]]


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
        self.weights = [
            LearnedWeight(solved, tuning, from_codes=from_codes, may_move=may_move)
            for solved in block.solved
        ]
        self.norms = {
            path: learned
            for parameters in block.norms.values()
            for path, learned in learned_norm(parameters).items()
        }
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
        self.units: list[float] = []
        """First values of the terms."""
        self.steps_done = 0

    def hard(self) -> Learned:
        """With every number on its nearest code."""
        return Learned(
            codes={one.solved.storage: one.hard() for one in self.weights},
            quantizers={place: learned.hard() for place, learned in self.quantizers.items()},
            soft_shares={
                one.solved.storage: one.soft_share for one in self.weights if one.is_reached
            },
            beside={path: one().detach() for path, one in self.norms.items()},
        )

    def run(self, tick: Callable[[Tick], None], stop: EarlyStop | None) -> str:
        """Returns why the result cannot be used, or nothing."""
        if not self.weights:
            return "no weight of its own"
        if not self.objective.is_reachable:
            return "the network's output does not depend on it, and the loss is about that"
        rules = self._rules()
        if not rules:
            return "nothing of it is learned"
        ticking = tick_steps(self.tuning.steps)
        order = self._order()
        for step in range(self.tuning.steps):
            loss = self._loss(next(order), step)
            if not loss.requires_grad:
                return "its main output does not depend on what is learned"
            shown = float(loss.detach()) / self.objective.weight
            if not math.isfinite(shown):
                return f"the loss is not finite at step {step}; the start is kept"
            self._move(loss, step, rules)
            self.steps_done = step + 1
            if step in ticking:
                tick(Tick(step + 1, self.tuning.steps, shown))
            if stop is not None and stop.is_due(step) and stop.is_over(step, self.hard()):
                break
        return ""

    def _loss(self, number: int, step: int) -> Tensor:
        """Before the step."""
        for one in self.weights:
            one.variable.prepare(step)
        values = self._values(number, step)
        self.units = self.units or [max(float(value.detach()), TINY) for value in values]
        return self.objective.total(values, self.units)

    def _move(self, loss: Tensor, step: int, rules: Rules) -> None:
        for rule, _ in rules:
            rule.zero_grad()
        loss.backward()
        for one in self.weights:
            one.variable.observe(step)
        for rule, schedule in rules:
            set_rate(rule, share_left(schedule, step, self.tuning.steps))
            rule.step()

    def _values(self, number: int, step: int) -> list[Tensor]:
        """Of each term of the loss, for the weights as they are now."""
        weights = {one.solved.storage: one.soft() for one in self.weights}
        beside = {path: value for one in self.weights for path, value in one.beside().items()}
        beside |= {path: one() for path, one in self.norms.items()}
        choice = Choice(weights, beside, self.quantizers)
        if self.tuning.drop == "gradual":
            for quantizer in self.quantizers.values():
                quantizer.keep_quantized = kept_quantized(self.tuning, step)
        fed = self.inputs(number, step)
        with _precision(self.tuning, self.block):
            pairs = self.objective.pairs(partial(self.block.run, choice), fed, number)
        return self.objective.values(pairs)

    def _rules(self) -> Rules:
        """Of the variables as the tuning says; of all else Adam along a cosine (BRECQ, QDrop)."""
        tuning = self.tuning
        found: Rules = []
        variables = [part for one in self.weights for part in one.variable.learned()]
        if variables:
            rule = optimizer(variables, tuning.optimizer, tuning.rounding_lr)
            found.append((rule, tuning.schedule))
        of_act = {id(one): one.log_scale for one in self.quantizers.values()}
        parts = [
            (tuning.act_lr, [one for one in of_act.values() if one is not None]),
            (tuning.grid_lr, [part for one in self.weights for part in one.of_grid]),
            (tuning.bias_lr, [part for one in self.weights for part in one.of_bias]),
            (tuning.bias_lr, [one.shift for one in self.norms.values()]),
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


def _precision(tuning: Tuning, block: Block) -> AbstractContextManager[object]:
    """Autocast if it pays, or is asked for. A model that is not of float32 keeps its own types."""
    if tuning.precision == "fp32" or _other_types(block):
        return nullcontext()
    if tuning.precision == "auto" and not fast_bf16(block.device):
        return nullcontext()
    return torch.autocast(block.device.type, torch.bfloat16)


def _other_types(block: Block) -> list[str]:
    """Of weights that are not of float32."""
    found = {str(solved.weight.dtype).removeprefix("torch.") for solved in block.solved}
    return sorted(found - {"float32"})


def fast_bf16(device: torch.device) -> bool:
    """The machine multiplies bf16 matrices in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and multiplies_bf16()
