"""The ``calibrate`` and ``evaluate`` statements."""

from collections.abc import Sequence
from typing import cast, get_args

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.diagnostics.suggest import did_you_mean
from qcompile.methods.axes import Flip
from qcompile.policy.attributes import Attribute, Shape, given_twice, listed, read
from qcompile.policy.expression import Checker
from qcompile.policy.recipe import Calibration, Evaluation
from qcompile.syntax.nodes import CalibrateBlock, EvaluateBlock, Name

DEFAULT_SAMPLES = 256
DEFAULT_BATCH = 32
DEFAULT_SEED = 0

CALIBRATE = (
    Attribute("data", Shape.TEXT, required=True),
    Attribute("samples", Shape.INTEGER, low=1),
    Attribute("batch", Shape.INTEGER, low=1),
    Attribute("seed", Shape.INTEGER),
    Attribute("labels", Shape.TEXT),
    Attribute("groups", Shape.TEXT),
    Attribute("flip", Shape.WORD, choices=get_args(Flip)),
    Attribute("mask", Shape.TEXT),
    Attribute("seq_len", Shape.INTEGER, low=1),
)
EVALUATE = (
    Attribute("data", Shape.TEXT, required=True),
    Attribute("batch", Shape.INTEGER, low=1),
    Attribute("samples", Shape.INTEGER, low=1),
    Attribute("labels", Shape.TEXT),
    Attribute("mask", Shape.TEXT),
    Attribute("seq_len", Shape.INTEGER, low=1),
)
METRICS = ("top1", "top5", "agreement", "perplexity", "cosine", "sqnr")
"""Or ``pkg.mod:callable``."""


def lower_calibrate(node: CalibrateBlock, checker: Checker) -> Calibration | None:
    """``None`` where it does not say which data."""
    settings = read("`calibrate`", node.attrs, CALIBRATE, checker, node.span)
    reference, attr = settings.text("data"), settings.attr("data")
    if settings.attr("seed") is None:
        checker.report(no_seed(node))
    if reference is None or attr is None:
        return None
    return Calibration(
        reference=reference,
        samples=settings.integer("samples") or DEFAULT_SAMPLES,
        batch=settings.integer("batch") or DEFAULT_BATCH,
        seed=settings.integer("seed") or DEFAULT_SEED,
        labels=settings.text("labels"),
        groups=settings.text("groups"),
        flip=cast("Flip | None", settings.text("flip")),
        mask=settings.text("mask"),
        seq_len=settings.integer("seq_len"),
        span=node.span,
        reference_span=attr.value.span,
    )


def lower_evaluate(nodes: Sequence[EvaluateBlock], checker: Checker) -> tuple[Evaluation, ...]:
    """Several statements are several metrics."""
    first: dict[str, Name] = {}
    found: list[Evaluation | None] = []
    for node in nodes:
        metric = node.metric.text
        if metric in first:
            checker.report(given_twice(f"evaluate {metric}", node.metric.span, first[metric].span))
        first.setdefault(metric, node.metric)
        found.append(_evaluation(node, checker))
    return tuple(item for item in found if item is not None)


def _evaluation(node: EvaluateBlock, checker: Checker) -> Evaluation | None:
    metric = node.metric
    if metric.text not in METRICS and ":" not in metric.text:
        checker.report(unknown_metric(metric))
    settings = read("`evaluate`", node.attrs, EVALUATE, checker, node.span)
    reference = settings.text("data")
    if reference is None:
        return None
    return Evaluation(
        metric=metric.text,
        reference=reference,
        batch=settings.integer("batch") or DEFAULT_BATCH,
        samples=settings.integer("samples"),
        labels=settings.text("labels"),
        mask=settings.text("mask"),
        seq_len=settings.integer("seq_len"),
        span=node.span,
    )


def no_seed(node: CalibrateBlock) -> Diagnostic:
    """QR704."""
    return Diagnostic(
        Code.NO_SEED,
        f"no seed is given: samples are drawn with seed {DEFAULT_SEED}",
        Label(node.span),
        help=f"write `seed = {DEFAULT_SEED}`",
    )


def unknown_metric(metric: Name) -> Diagnostic:
    """QR201."""
    guess = did_you_mean(metric.text, METRICS)
    return Diagnostic(
        Code.UNKNOWN_NAME,
        f"unknown metric `{metric.text}`",
        Label(metric.span),
        help=guess or f'write one of {listed(METRICS)}, or "package.module:function"',
    )
