"""The calibration samples of a recipe, or of the caller, selected and checked."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx

from qcompile.data.batches import split_off
from qcompile.data.flips import drawn_a_batch, unfit_flips, with_flips
from qcompile.data.input_check import by_input, check_batch, other_sizes
from qcompile.data.reading import Reading
from qcompile.data.sampling import CalibrationSet, select_samples
from qcompile.data.source_kinds import DataSource
from qcompile.data.sources import open_data, source_of
from qcompile.diagnostics.diagnostic import Diagnostic, has_errors
from qcompile.diagnostics.failure import CompileError
from qcompile.driver.batches import placeholder_batches
from qcompile.driver.bind import Bound
from qcompile.driver.padding import masked, padding
from qcompile.passes.padding import Padding
from qcompile.policy.core import DataPlan
from qcompile.policy.recipe import Calibration as Asked

IN_MEMORY = "memory"
"""Reference of data that was passed as an object."""


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    plan: DataPlan
    batches: tuple[dict[str, Tensor], ...]
    """By placeholder of the graph, without labels."""
    padding: Padding
    diagnostics: tuple[Diagnostic, ...]

    @property
    def judging(self) -> int | None:
        """How many batches, the last, judge a fit, where the data decides that."""
        parted, drawn = self.plan.groups, drawn_a_batch(self.plan.batch, self.plan.flip)
        return None if parted is None else math.ceil(parted.judging_samples / drawn)


def calibration(
    bound: Bound, data: object | None, known: Calibration | None = None
) -> Calibration | None:
    """``None`` when the recipe asks for none. ``data`` stands in for the recipe's reference.

    ``known`` are the samples of another plan of the recipe, which are not read a second time where
    the batches are as large. With a mask they are: where padding lies is a matter of the graph.
    """
    asked = bound.recipe.calibration
    if asked is None:
        return None
    size = batch_size(bound, asked.batch)
    if known is not None and asked.mask is None and known.plan.batch == size:
        return known
    reference = asked.reference if data is None else IN_MEMORY
    source, problems = _source(bound, reference, asked.seq_len, data)
    labels = asked.labels if asked.labels is not None else source.labels
    selected, found = select_samples(
        reference,
        source,
        asked.samples,
        drawn_a_batch(size, asked.flip),
        asked.seed,
        asked.groups,
        labels,
    )
    problems.extend(found)
    if selected is None:
        raise CompileError(problems)
    selected, masks = masked(reference, selected, asked.mask, bound)
    if asked.flip is not None:
        problem = unfit_flips(reference, split_off(selected.batches[0], labels)[0], size)
        problems += [] if problem is None else [problem]
        flipped = (with_flips(batch, asked.flip) for batch in selected.batches)
        selected = replace(selected, batches=tuple(flipped))
        masks = [torch.cat([mask, mask]) for mask in masks]
    inputs = split_off(selected.batches[0], labels)[0]
    problems.extend(check_batch(inputs, bound.expected))
    if not has_errors(problems):
        shapes = {k: tuple(v.shape) for k, v in by_input(inputs, bound.expected).items()}
        reason = bound.seen.captured.size_problem(shapes)
        problems += [] if reason is None else [other_sizes(reference, reason)]
    if has_errors(problems):
        raise CompileError(problems)
    batches = _batches(bound.graph, selected, labels)
    return Calibration(
        plan=_plan(reference, selected, size, asked),
        batches=batches,
        padding=padding(reference, asked.mask, bound, batches, masks),
        diagnostics=tuple(problems),
    )


def batch_size(bound: Bound, asked: int) -> int:
    """A step takes one batch, so that what learns says how large it is; all agree (QR290)."""
    tunings = [bound.recipe.tuning, *(tune.tuning for tune in bound.tunes)]
    return next((tuning.batch for tuning in tunings if tuning.learns), asked)


def _source(
    bound: Bound, reference: str, seq_len: int | None, data: object | None
) -> tuple[DataSource, list[Diagnostic]]:
    reading = Reading(bound.recipe.model_reference, seq_len, bound.recipe.images)
    opened, problems = (
        open_data(reference, bound.root, bound.trusted, reading)
        if data is None
        else source_of(reference, data, bound.root, seq_len)
    )
    if opened is None:
        raise CompileError(problems)
    return opened, problems


def _plan(reference: str, selected: CalibrationSet, batch: int, asked: Asked) -> DataPlan:
    return DataPlan(
        reference=reference,
        samples=len(selected.indices),
        batch=batch,
        indices=selected.indices,
        sha256=selected.sha256,
        groups=selected.groups,
        flip=asked.flip,
        mask=asked.mask,
        seq_len=asked.seq_len,
    )


def _batches(
    graph: fx.GraphModule, selected: CalibrationSet, labels: str | None
) -> tuple[dict[str, Tensor], ...]:
    return tuple(placeholder_batches(graph, selected.batches, labels))
