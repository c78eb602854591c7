"""Modules on data: each metric once over all batches, for the quantized model and the float one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, fx, nn

from qcompile.data.batches import Batch, model_arguments, rows, slice_rows, split_off
from qcompile.data.images import ImageSource
from qcompile.data.input_check import does_not_fit
from qcompile.data.masks import captured_without, mask_of, names, takes, unfit_mask, without_mask
from qcompile.data.metrics import (
    Metric,
    Outcome,
    Tally,
    find_metric,
    primary_output,
    unmeasurable,
)
from qcompile.data.reading import Reading
from qcompile.data.reference import is_text
from qcompile.data.source_kinds import DataSource
from qcompile.data.sources import open_data
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.failure import CompileError
from qcompile.policy.core import EvaluationPlan

OF_CLASSES = ("top1", "top5")
OTHER_DATA = "name the tensor that is not for the model with `labels`, or other data with `--data`"
ADD_FLOAT = "add `--float`, or pass `reference=model`"


@dataclass(frozen=True, slots=True)
class Evaluation:
    metric: str
    value: float
    data: str
    samples: int
    reference_value: float | None = None
    """Of the reference model on the same batches, where there is one."""


def measure_all(
    module: nn.Module,
    reference: nn.Module | None,
    asked: Sequence[EvaluationPlan],
    root: Path,
    trusted: frozenset[str],
    device: str | torch.device,
    reading: Reading,
) -> list[Evaluation]:
    """Everything that is ``asked``, in groups of the same data; modules are on ``device``.

    Of ``reading`` what ``asked`` says itself does not count.
    """
    found: list[Evaluation] = []
    for group in by_data(asked):
        _check_mask(module, reference, group[0])
        of_group = replace(reading, length=group[0].seq_len)
        source, problems = open_data(group[0].reference, root, trusted, of_group)
        if source is None:
            raise CompileError(problems)
        metrics = [_metric(item.metric, root, trusted) for item in group]
        for metric in metrics:
            if metric.name in OF_CLASSES and is_text(group[0].reference):
                way_out = "ask for `perplexity` or `agreement`"
                raise CompileError(
                    [unmeasurable(metric.name, "is of classes, not of texts", way_out)]
                )
        found += _measure(module, reference, group[0], metrics, source, device)
    return found


def by_data(asked: Sequence[EvaluationPlan]) -> list[list[EvaluationPlan]]:
    """Evaluations of the same data share one pass over it."""
    groups: dict[EvaluationPlan, list[EvaluationPlan]] = {}
    for item in asked:
        groups.setdefault(item.model_copy(update={"metric": ""}), []).append(item)
    return list(groups.values())


def _measure(
    module: nn.Module,
    reference: nn.Module | None,
    first: EvaluationPlan,
    metrics: Sequence[Metric],
    source: DataSource,
    device: str | torch.device,
) -> list[Evaluation]:
    """``first`` says what is the same for all ``metrics``."""
    data = first.reference
    for lonely in (m.name for m in metrics if m.needs_reference and reference is None):
        raise CompileError([unmeasurable(lonely, "compares with the float model", ADD_FLOAT)])
    labels = first.labels if first.labels is not None else source.labels
    limit = len(source) if first.samples is None else min(first.samples, len(source))
    ours, theirs = [[Tally() for _ in metrics] for _ in range(2)]
    seen = 0
    with torch.no_grad():
        for batch in source.batches(first.batch):
            batch = slice_rows(batch, 0, limit - seen)
            seen += rows(batch)
            inputs, target = split_off(batch, labels)
            args, kwargs = model_arguments(without_mask(inputs, first.mask, module))
            args = tuple(value.to(device) for value in args)
            kwargs = {name: value.to(device) for name, value in kwargs.items()}
            outcome = Outcome(
                outputs=_outputs(module, args, kwargs, data),
                reference=None if reference is None else reference(*args, **kwargs),
                labels=None if target is None else target.to(device),
                batch=batch,
                mask=None if first.mask is None else _mask(batch, first.mask, data).to(device),
            )
            _check_classes(source, outcome, metrics)
            _check_positions(outcome, data)
            ours = [t.plus(m.measure(outcome)) for t, m in zip(ours, metrics, strict=True)]
            if reference is not None:
                outcome = replace(outcome, outputs=outcome.reference)
                theirs = [t.plus(m.measure(outcome)) for t, m in zip(theirs, metrics, strict=True)]
            if seen >= limit:  # the next batch is not even read
                break
    return [
        Evaluation(
            metric=metric.name,
            value=our.value(metric),
            data=data,
            samples=seen,
            reference_value=None if reference is None else their.value(metric),
        )
        for metric, our, their in zip(metrics, ours, theirs, strict=True)
    ]


def _check_classes(source: DataSource, outcome: Outcome, metrics: Sequence[Metric]) -> None:
    """Folders that are numbered by their order are the model's classes only if all are there."""
    asked = next((metric.name for metric in metrics if metric.name in OF_CLASSES), None)
    outputs = primary_output(outcome.outputs)
    if asked is None or outputs is None or not isinstance(source, ImageSource):
        return
    ordered = source.listed.ordered_classes
    if outputs.dim() and ordered not in (None, outputs.shape[-1]):
        there = f"`{source.name}` has {ordered} folders"
        reason = f"cannot tell classes: {there}, the model {outputs.shape[-1]} outputs"
        way_out = "name each folder by the number of its class, counted from 0"
        raise CompileError([unmeasurable(asked, reason, way_out)])


def _check_positions(outcome: Outcome, data: str) -> None:
    """What has neither its positions second nor none is not guessed at."""
    outputs, mask = primary_output(outcome.outputs), outcome.mask
    if outputs is None or mask is None:
        return
    samples, positions = mask.shape
    apart = outputs.dim() > 2 and outputs.shape[:2] == mask.shape
    none = outputs.dim() in (1, 2) and outputs.shape[0] == samples and samples > 0
    if not apart and not (none and (outputs.dim() == 1 or outputs.shape[1] != positions)):
        raise CompileError([unclear_outputs(data, outputs.shape)])


def _check_mask(module: nn.Module, reference: nn.Module | None, asked: EvaluationPlan) -> None:
    """Without its mask the model would look at the padding, and nobody would see it."""
    name = asked.mask
    if name is None or reference is None or takes(module, name):
        return
    if names(reference, name):
        raise CompileError([captured_without(asked.reference, name)])


def _mask(batch: Batch, name: str, data: str) -> Tensor:
    found = mask_of(batch, name, data)
    if isinstance(found, Diagnostic):
        raise CompileError([found])
    return found


def unclear_outputs(data: str, shape: Sequence[int]) -> Diagnostic:
    """QR719: some of them are of padding."""
    what = f"is masked, and where outputs {[*shape]} have their positions cannot be told"
    way_out = "let the model return [samples, tokens, ...], or one row a sample"
    return unfit_mask(data, "outputs", what, way_out)


def _outputs(
    module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor], data: str
) -> object:
    # a GraphModule that is called prints a traceback of its own before it raises
    run = module.forward if isinstance(module, fx.GraphModule) else module
    try:
        return cast("object", run(*args, **kwargs))
    except (RuntimeError, TypeError, IndexError) as error:
        shapes = [value.shape for value in (*args, *kwargs.values())]
        raise CompileError([does_not_fit(data, shapes, str(error), OTHER_DATA)]) from error


def _metric(name: str, root: Path, trusted: frozenset[str]) -> Metric:
    metric = find_metric(name, root, trusted)
    if isinstance(metric, Diagnostic):
        raise CompileError([metric])
    return metric
