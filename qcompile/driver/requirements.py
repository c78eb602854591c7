"""What ``require`` asks of a finished run, measured on the data of ``evaluate``."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import fx

from qcompile.data.metrics import find_metric
from qcompile.data.reading import Reading
from qcompile.data.sources import open_data
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.failure import CompileError
from qcompile.driver.bind import Bound
from qcompile.driver.measure import Evaluation, measure_all
from qcompile.policy.assertion import Failure, check_requirements
from qcompile.policy.claim import AfterRun, RunFigure, measures
from qcompile.policy.core import EvaluationPlan
from qcompile.policy.lower_assertion import accuracy_metric
from qcompile.policy.recipe import Requirement

PERCENT = ("top1", "top5", "agreement")
"""Figures of which a metric gives the share of 1."""

Judged = tuple[Requirement, Failure | None]


def check_measurable(bound: Bound, evaluations: Sequence[EvaluationPlan]) -> None:
    """Before the work begins: data and metrics can be found. Raises ``CompileError``."""
    problems: list[Diagnostic] = []
    for item in _needed(bound.recipe.requirements, evaluations):
        reading = Reading(bound.recipe.model_reference, item.seq_len, bound.recipe.images)
        source, found = open_data(item.reference, bound.root, bound.trusted, reading)
        problems += [] if source is not None else found
        metric = find_metric(item.metric, bound.root, bound.trusted)
        problems += [metric] if isinstance(metric, Diagnostic) else []
    if problems:
        raise CompileError(problems)


def judge_requirements(
    bound: Bound,
    quantized: fx.GraphModule,
    evaluations: Sequence[EvaluationPlan],
    device: torch.device,
) -> tuple[tuple[Judged, ...], Mapping[RunFigure, float]]:
    """Each requirement with why it does not hold, and the figures that were looked at.

    The reference is the float graph of ``bound``; ``device`` has to hold both.
    """
    requirements = bound.recipe.requirements
    needed = _needed(requirements, evaluations)
    reference = bound.graph if device.type == "cpu" else _on(bound.graph, device)
    found = measure_all(
        quantized.to(device),
        reference,
        needed,
        bound.root,
        bound.trusted,
        device,
        Reading(bound.recipe.model_reference, images=bound.recipe.images),
    )
    figures: dict[RunFigure, float] = {
        which: _value(which, needed, found) for which in _figures(requirements)
    }
    measured = replace(bound.measured, after_run=figures)
    judged = check_requirements(requirements, bound.sites, bound.resolution, measured)
    return tuple(judged), figures


def _figures(requirements: Sequence[Requirement]) -> list[RunFigure]:
    """Each once, in the order of the text."""
    every = [measure for item in requirements for measure in measures(item.claim)]
    return list(dict.fromkeys(one.which for one in every if isinstance(one, AfterRun)))


def _needed(
    requirements: Sequence[Requirement], evaluations: Sequence[EvaluationPlan]
) -> list[EvaluationPlan]:
    """One evaluation for each metric that a figure is made of, on the data that names it."""
    if not evaluations:
        return []
    by_metric = {item.metric: item for item in reversed(evaluations)}
    names = [_metric(which, evaluations) for which in _figures(requirements)]
    return [
        by_metric.get(name) or evaluations[0].model_copy(update={"metric": name})
        for name in dict.fromkeys(names)
    ]


def _metric(which: RunFigure, evaluations: Sequence[EvaluationPlan]) -> str:
    match which:
        case "accuracy_drop":
            found = accuracy_metric([item.metric for item in evaluations])
            return found if found is not None else "top1"
        case "perplexity_ratio":
            return "perplexity"
        case _:
            return which


def _value(
    which: RunFigure, needed: Sequence[EvaluationPlan], found: Sequence[Evaluation]
) -> float:
    metric = _metric(which, needed)
    one = next(item for item in found if item.metric == metric)
    reference = one.reference_value if one.reference_value is not None else one.value
    match which:
        case "accuracy_drop":
            return 100 * (reference - one.value)
        case "perplexity_ratio":
            return one.value / reference
        case _:
            return 100 * one.value if which in PERCENT else one.value


def _on(graph: fx.GraphModule, device: torch.device) -> fx.GraphModule:
    copied = fx.GraphModule(graph, graph.graph)
    return copied.to(device)
