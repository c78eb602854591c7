"""The calibration samples: which, in what order, and the hash that pins their content."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from qcompile.data.batches import (
    Batch,
    content_sha256,
    map_tensors,
    named_tensors,
    slice_rows,
    split_off,
    take_rows,
)
from qcompile.data.groups import by_group, lacks_groups, unfit_groups
from qcompile.data.source_kinds import DataSource
from qcompile.data.sources import empty_data
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, has_errors
from qcompile.diagnostics.failure import CompileError
from qcompile.policy.core import GroupsPlan

DEFAULT_SEED = 0


@dataclass(frozen=True, slots=True)
class CalibrationSet:
    """``sha256`` is over the selected samples in their order, whatever the batch size."""

    indices: tuple[int, ...]
    sha256: str
    batches: tuple[Batch, ...]
    groups: GroupsPlan | None = None


def select_samples(
    reference: str,
    source: DataSource,
    samples: int,
    batch: int,
    seed: int | None,
    groups: str | None = None,
    labels: str | None = None,
) -> tuple[CalibrationSet | None, list[Diagnostic]]:
    """The first ``samples`` after a shuffle with ``seed``; ``labels`` stay in the batches.

    ``groups`` names the tensor that says of which group a sample is, and does not stay.
    """
    available = len(source)
    if available == 0:
        return None, [empty_data(reference)]
    problems = [] if seed is not None else [no_seed(reference)]
    if samples > available:
        problems.append(too_few(reference, samples, available))
    indices = shuffled(available, DEFAULT_SEED if seed is None else seed)[:samples]
    try:
        selected = map_tensors(source.read(indices), Tensor.contiguous)
    except CompileError as error:
        return None, [*problems, *error.diagnostics]
    problems += finite_problems(reference, selected, indices)
    if has_errors(problems):
        return None, problems
    if groups is None:
        parts = [slice_rows(selected, at, at + batch) for at in range(0, len(indices), batch)]
        return CalibrationSet(indices, content_sha256(selected), tuple(parts)), problems
    problem = lacks_groups(selected, groups, labels, reference)
    rest, named = split_off(selected, groups)
    if named is not None and problem is None:
        problem = unfit_groups(named, groups, reference)
    if named is None or problem is not None:
        return None, [*problems, *([problem] if problem else [])]
    return _parted(indices, rest, groups, named.tolist(), batch), problems


def _parted(
    indices: tuple[int, ...], selected: Batch, name: str, groups: Sequence[int], size: int
) -> CalibrationSet:
    """No batch has samples of both sides. Those of a side are as large as one another.

    A step takes a batch, whatever its size: a small one would count for more.
    """
    fitted, judging = by_group(groups)
    order = [*fitted, *judging]
    ordered = take_rows(selected, order)
    stops = list(accumulate([*_even(len(fitted), size), *_even(len(judging), size)], initial=0))
    return CalibrationSet(
        indices=tuple(indices[place] for place in order),
        sha256=content_sha256(ordered),
        batches=tuple(slice_rows(ordered, *ends) for ends in pairwise(stops)),
        groups=GroupsPlan(
            tensor=name,
            count=len(set(groups)),
            judging=len({groups[place] for place in judging}),
            judging_samples=len(judging),
        ),
    )


def _even(count: int, most: int) -> list[int]:
    """Sizes of as few parts as there can be."""
    parts = math.ceil(count / most)
    return [(count + place) // parts for place in reversed(range(parts))]


def shuffled(count: int, seed: int) -> tuple[int, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randperm(count, generator=generator).tolist())


def finite_problems(reference: str, batch: Batch, indices: Sequence[int]) -> list[Diagnostic]:
    """``indices`` are those of the rows of ``batch`` in the source."""
    problems: list[Diagnostic] = []
    for name, tensor in named_tensors(batch):
        if tensor.is_floating_point() or tensor.is_complex():
            bad = ~tensor.isfinite().flatten(1).all(1) if tensor.dim() > 1 else ~tensor.isfinite()
            rows = bad.nonzero().flatten().tolist()
            if rows:
                first = min(indices[row] for row in rows)
                problems.append(non_finite(reference, name, first, len(rows)))
    return problems


def no_seed(reference: str) -> Diagnostic:
    """QR704: the samples are chosen by a seed that the recipe does not show."""
    return Diagnostic(
        Code.NO_SEED,
        f"no `seed` for the samples; {DEFAULT_SEED} is used",
        subject=reference,
        help=f"write `seed = {DEFAULT_SEED}`",
    )


def too_few(reference: str, wanted: int, available: int) -> Diagnostic:
    """QR703: all there are will be used."""
    return Diagnostic(
        Code.TOO_FEW_SAMPLES,
        f"{wanted} samples requested, `{reference}` has {available}",
        subject=reference,
        help=f"write `samples = {available}`",
    )


def non_finite(reference: str, name: str, first: int, count: int) -> Diagnostic:
    """QR712: one such sample would spoil every range it is measured with."""
    others = f"; {count} of the selected samples do" if count > 1 else ""
    return Diagnostic(
        Code.NON_FINITE_DATA,
        f"sample {first} of `{reference}` has NaN or Inf values",
        subject=f"{reference} [{first}]",
        notes=(f"in tensor `{name}`{others}",),
        help="remove or repair the sample",
    )
