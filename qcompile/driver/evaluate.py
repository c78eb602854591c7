"""Measure a model on data: accuracy and the like, and agreement with the float model."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from qcompile.data.model_source import load_model
from qcompile.data.project import project_around
from qcompile.data.reading import Reading
from qcompile.data.reference import is_text
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.failure import CompileError
from qcompile.diagnostics.source import Source
from qcompile.driver.front import check_source
from qcompile.driver.load import load, plan_of
from qcompile.driver.measure import Evaluation, by_data, measure_all
from qcompile.driver.saved_plan import saved_params
from qcompile.emit.lower.lowering import Lowering
from qcompile.policy.core import EvaluationPlan, PlanCore
from qcompile.policy.imports import StoredTexts
from qcompile.targets.names import REFERENCE


def evaluate(
    model: nn.Module | str | Path,
    *,
    metrics: Sequence[str] | None = None,
    data: str | None = None,
    reference: nn.Module | None = None,
    batch: int | None = None,
    labels: str | None = None,
    mask: str | None = None,
    seq_len: int | None = None,
    root: str | Path = ".",
    trusted: frozenset[str] = frozenset(),
    device: str | torch.device = "cpu",
) -> list[Evaluation]:
    """Measure an artifact directory, or any module, without training anything.

    An artifact is measured as its simulation. It brings the ``evaluate`` blocks of its recipe;
    ``data`` and ``metrics`` replace them. A module needs both. ``reference`` is the float model
    that ``agreement``, ``cosine`` and ``sqnr`` compare with. Of ``data``, ``labels`` and ``mask``
    name tensors of a batch, and ``seq_len`` is the most token ids of a sample. Raises
    ``CompileError`` when data and model do not fit.
    """
    asked = _asked(model, metrics, data, batch, labels, mask, seq_len)
    reading = Reading() if isinstance(model, nn.Module) else _reading(plan_of(model).core)
    module = model if isinstance(model, nn.Module) else load(model, REFERENCE)
    module = module.to(device).eval()
    return measure_all(module, reference, asked, Path(root), trusted, device, reading)


def compare(
    artifact: Path,
    *,
    metrics: Sequence[str] | None = None,
    data: str | None = None,
    batch: int | None = None,
    seq_len: int | None = None,
    mask: str | None = None,
    with_float: bool = False,
    lowered: Lowering | None = None,
    trusted: frozenset[str] = frozenset(),
    device: str = "cpu",
) -> list[Evaluation]:
    """Measure an artifact; with the float model beside it, its agreement too.

    ``lowered`` is the artifact for a target, to be measured in place of the simulation, on the
    device of the target.
    """
    if lowered is not None:
        device = str(lowered.device)
    root = _recipe_folder(artifact)
    reference: nn.Module | None = None
    asked = _asked(artifact, metrics, data, batch, None, mask, seq_len)
    if with_float and asked:
        reference = _float_model(artifact, root, trusted).to(device)
        agreement = asked[0].model_copy(update={"metric": "agreement"})
        asked = asked if agreement in asked else [*asked, agreement]
    module = load(artifact, REFERENCE).to(device) if lowered is None else lowered.module
    reading = _reading(plan_of(artifact).core)
    return measure_all(module, reference, asked, root, trusted, device, reading)


def _reading(core: PlanCore) -> Reading:
    return Reading(core.model, images=core.images)


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
    mask: str | None,
    seq_len: int | None,
) -> list[EvaluationPlan]:
    stored = () if isinstance(model, nn.Module) else plan_of(model).core.evaluations
    if data is None:
        wanted = [
            e.model_copy(
                update={
                    "batch": batch or e.batch,
                    "seq_len": seq_len or e.seq_len,
                    "mask": mask or e.mask,
                }
            )
            for e in stored
        ]
        if metrics is None:
            return wanted
        return [
            group[0].model_copy(update={"metric": metric})
            for group in by_data(wanted)
            for metric in metrics
        ]
    usual = "perplexity" if is_text(data) else "top1"
    names = metrics if metrics is not None else (usual,)
    return [
        EvaluationPlan(
            metric=name,
            reference=data,
            batch=batch or 100,
            labels=labels,
            mask=mask,
            seq_len=seq_len,
        )
        for name in names
    ]
