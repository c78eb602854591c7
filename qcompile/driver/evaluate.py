"""Measure a model on data: accuracy and the like, and agreement with the float model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, fx, nn

from qcompile.data.batches import model_arguments, rows, slice_rows, split_labels
from qcompile.data.metrics import Metric, Outcome, Tally, find_metric, unmeasurable
from qcompile.data.model_source import load_model
from qcompile.data.project import project_around
from qcompile.data.sources import open_data
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.failure import CompileError
from qcompile.diagnostics.source import Source
from qcompile.driver.front import check_source
from qcompile.driver.load import load, plan_of
from qcompile.driver.plan import saved_params
from qcompile.emit.lower.lowering import Lowering
from qcompile.policy.core import EvaluationPlan
from qcompile.policy.imports import StoredTexts

ADD_FLOAT = "add `--float`, or pass `reference=model`"


@dataclass(frozen=True, slots=True)
class Evaluation:
    metric: str
    value: float
    data: str
    samples: int
    reference_value: float | None = None
    """Of the reference model on the same batches, where there is one."""


def evaluate(
    model: nn.Module | str | Path,
    *,
    metrics: Sequence[str] | None = None,
    data: str | None = None,
    reference: nn.Module | None = None,
    batch: int | None = None,
    labels: str | None = None,
    root: str | Path = ".",
    trusted: frozenset[str] = frozenset(),
    device: str | torch.device = "cpu",
) -> list[Evaluation]:
    """Measure an artifact directory, or any module, without training anything.

    An artifact brings the ``evaluate`` blocks of its recipe; ``data`` and ``metrics`` replace them.
    A module needs both. ``reference`` is the float model that ``agreement``, ``cosine`` and
    ``sqnr`` compare with. Raises ``CompileError`` when data and model do not fit.
    """
    asked = _asked(model, metrics, data, batch, labels)
    module = model if isinstance(model, nn.Module) else load(model)
    module = module.to(device).eval()
    return _evaluations(module, reference, asked, Path(root), trusted, device)


def compare(
    artifact: Path,
    *,
    metrics: Sequence[str] | None = None,
    data: str | None = None,
    batch: int | None = None,
    with_float: bool = False,
    lowered: Lowering | None = None,
    trusted: frozenset[str] = frozenset(),
    device: str = "cpu",
) -> list[Evaluation]:
    """Measure an artifact; with the float model beside it, its agreement too.

    ``lowered`` is the artifact for a target, to be measured in place of the simulation.
    """
    root = _recipe_folder(artifact)
    reference: nn.Module | None = None
    asked = _asked(artifact, metrics, data, batch, None)
    if with_float and asked:
        reference = _float_model(artifact, root, trusted).to(device)
        asked = [*asked, asked[0].model_copy(update={"metric": "agreement"})]
    module = load(artifact).to(device) if lowered is None else lowered.module
    return _evaluations(module, reference, asked, root, trusted, device)


def _recipe_folder(artifact: Path) -> Path:
    """Where the recipe lay, as seen from here: its references are looked up from there."""
    folder = project_around(Path.cwd()).root / Path(plan_of(artifact).core.recipe[0].name).parent
    return folder if folder.is_dir() else Path.cwd()


def _float_model(artifact: Path, root: Path, trusted: frozenset[str]) -> nn.Module:
    """The model of the recipe that the artifact carries."""
    plan = plan_of(artifact)
    name, texts = plan.core.recipe[0].name, plan.beside.recipe_texts
    source = Source(name, texts.get(name, ""))
    recipe = check_source(source, StoredTexts(texts), saved_params(plan.core)).recipe
    model = recipe.model if recipe is not None else None
    if model is None:
        raise CompileError([no_float_model(artifact)])
    weights = None if model.weights is None else Path(model.weights)
    loaded, problems = load_model(
        model.reference, args=model.args, weights=weights, root=root, trusted=trusted
    )
    if loaded is None:
        raise CompileError(problems)
    return loaded.module


def no_float_model(artifact: Path) -> Diagnostic:
    """QR520: the model was passed as an object, so nothing says how to build it again."""
    return Diagnostic(
        Code.MODEL_REFERENCE,
        "the artifact names no float model",
        subject=str(artifact),
        help="measure without `--float`, or call `qcompile.evaluate(..., reference=model)`",
    )


def _asked(
    model: nn.Module | str | Path,
    metrics: Sequence[str] | None,
    data: str | None,
    batch: int | None,
    labels: str | None,
) -> list[EvaluationPlan]:
    stored = () if isinstance(model, nn.Module) else plan_of(model).core.evaluations
    if data is None:
        wanted = [e.model_copy(update={"batch": batch or e.batch}) for e in stored]
        if metrics is None:
            return wanted
        return [
            group[0].model_copy(update={"metric": metric})
            for group in _by_data(wanted)
            for metric in metrics
        ]
    names = metrics if metrics is not None else ("top1",)
    return [
        EvaluationPlan(metric=name, reference=data, batch=batch or 100, labels=labels)
        for name in names
    ]


def _evaluations(
    module: nn.Module,
    reference: nn.Module | None,
    asked: Sequence[EvaluationPlan],
    root: Path,
    trusted: frozenset[str],
    device: str | torch.device,
) -> list[Evaluation]:
    return [
        evaluation
        for group in _by_data(asked)
        for evaluation in _measure(module, reference, group, root, trusted, device)
    ]


def _by_data(asked: Sequence[EvaluationPlan]) -> list[list[EvaluationPlan]]:
    """Evaluations of the same data share one pass over it."""
    groups: dict[tuple[str, int, int | None, str | None], list[EvaluationPlan]] = {}
    for item in asked:
        key = (item.reference, item.batch, item.samples, item.labels)
        groups.setdefault(key, []).append(item)
    return list(groups.values())


def _measure(
    module: nn.Module,
    reference: nn.Module | None,
    group: Sequence[EvaluationPlan],
    root: Path,
    trusted: frozenset[str],
    device: str | torch.device,
) -> list[Evaluation]:
    data = group[0].reference
    source, problems = open_data(data, root, trusted)
    if source is None:
        raise CompileError(problems)
    metrics = [_metric(item.metric, root, trusted) for item in group]
    lonely = [m.name for m in metrics if m.needs_reference and reference is None]
    if lonely:
        raise CompileError([unmeasurable(lonely[0], "compares with the float model", ADD_FLOAT)])
    first = group[0]
    labels = first.labels if first.labels is not None else source.labels
    limit = len(source) if first.samples is None else min(first.samples, len(source))
    ours, theirs = [[Tally() for _ in metrics] for _ in range(2)]
    seen = 0
    with torch.no_grad():
        for batch in source.batches(first.batch):
            if seen >= limit:
                break
            batch = slice_rows(batch, 0, limit - seen)
            seen += rows(batch)
            inputs, target = split_labels(batch, labels)
            args, kwargs = model_arguments(inputs)
            args = tuple(value.to(device) for value in args)
            kwargs = {name: value.to(device) for name, value in kwargs.items()}
            outcome = Outcome(
                outputs=_outputs(module, args, kwargs, data),
                reference=None if reference is None else reference(*args, **kwargs),
                labels=None if target is None else target.to(device),
                batch=batch,
            )
            ours = [t.plus(m.measure(outcome)) for t, m in zip(ours, metrics, strict=True)]
            if reference is not None:
                outcome = replace(outcome, outputs=outcome.reference)
                theirs = [t.plus(m.measure(outcome)) for t, m in zip(theirs, metrics, strict=True)]
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


def _outputs(
    module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor], data: str
) -> object:
    # a GraphModule that is called prints a traceback of its own before it raises
    run = module.forward if isinstance(module, fx.GraphModule) else module
    try:
        return cast("object", run(*args, **kwargs))
    except (RuntimeError, TypeError, IndexError) as error:
        shapes = [list(value.shape) for value in (*args, *kwargs.values())]
        raise CompileError([does_not_fit(data, shapes, str(error))]) from error


def does_not_fit(data: str, shapes: list[list[int]], reason: str) -> Diagnostic:
    """QR702: the model stopped on a batch of this data."""
    return Diagnostic(
        Code.BATCH_MISMATCH,
        f"the model cannot take a batch of `{data}`: {', '.join(map(str, shapes))}",
        subject=data,
        notes=tuple(reason.splitlines()[:1]),
        help="name the tensor that is not for the model with `labels`, or other data with `--data`",
    )


def _metric(name: str, root: Path, trusted: frozenset[str]) -> Metric:
    metric = find_metric(name, root, trusted)
    if isinstance(metric, Diagnostic):
        raise CompileError([metric])
    return metric
