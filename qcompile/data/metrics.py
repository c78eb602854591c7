"""How good outputs are: a metric gives a sum and a count for each batch."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from qcompile.data.batches import Batch
from qcompile.data.import_factory import UserFunction, import_function
from qcompile.data.project import Project, project_around
from qcompile.data.purpose import METRIC
from qcompile.data.reference import CallableReference, parse_reference
from qcompile.data.user_code import Raised, raised, run_user_code
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.failure import CompileError
from qcompile.diagnostics.suggest import did_you_mean

IGNORED_LABEL = -100
"""Label of a token that does not count; the convention of ``torch.nn.functional``."""
EXACT_DB = 150.0
"""What ``sqnr`` says of outputs that are equal: about the resolution of float32."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One batch after the model: ``reference`` are the float model's outputs for it."""

    outputs: object
    reference: object | None
    labels: Tensor | None
    batch: Batch
    mask: Tensor | None = None
    """``bool[samples, positions]``, false for padding, which no metric of ours counts."""

    def own(self, value: Tensor) -> Tensor:
        """``[samples, positions, ...]`` without padding, as ``[n, ...]``; others as they are."""
        if self.mask is None or value.shape[:2] != self.mask.shape:
            return value
        return value[self.mask]


@dataclass(frozen=True, slots=True)
class Metric:
    """``measure`` raises ``CompileError`` (QR713) where outputs and labels do not fit."""

    name: str
    measure: Callable[[Outcome], tuple[float, int]]
    needs_labels: bool = False
    needs_reference: bool = False
    higher_is_better: bool = True
    finish: Callable[[float], float] = float
    """From the mean over all samples to the value that is shown."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Sum and count so far."""

    total: float = 0.0
    count: int = 0

    def plus(self, measured: tuple[float, int]) -> "Tally":
        return Tally(self.total + measured[0], self.count + measured[1])

    def value(self, metric: Metric) -> float:
        """NaN if nothing was measured."""
        return metric.finish(self.total / self.count) if self.count else math.nan


def find_metric(
    name: str, root: Path, trusted: frozenset[str] = frozenset()
) -> Metric | Diagnostic:
    """One of ``METRICS``, or the user's ``pkg.mod:callable(outputs, batch) -> sum, count``."""
    known = next((metric for metric in METRICS if metric.name == name), None)
    if known is not None:
        return known
    if ":" not in name:
        return unknown_metric(name)
    reference = parse_reference(name, METRIC)
    if isinstance(reference, Diagnostic):
        return reference
    assert isinstance(reference, CallableReference), "no other form is a metric"
    project = project_around(root, trusted)
    function = import_function(reference, METRIC, project)
    if isinstance(function, Diagnostic):
        return function
    return Metric(name, lambda outcome: _user_measure(name, function, outcome, project))


def primary_output(outputs: object) -> Tensor | None:
    """The tensor itself, ``logits`` of a mapping, else the first tensor there is."""
    match outputs:
        case Tensor():
            return outputs
        case Mapping():
            named = cast("Mapping[object, object]", outputs)
            logits = named.get("logits")
            return logits if isinstance(logits, Tensor) else _first(list(named.values()))
        case list() | tuple():
            return _first(cast("Sequence[object]", outputs))
        case _:
            return None


def unknown_metric(name: str) -> Diagnostic:
    """QR201: no metric of that name."""
    known = [metric.name for metric in METRICS]
    return Diagnostic(
        Code.UNKNOWN_NAME,
        f"there is no metric `{name}`",
        subject=name,
        notes=(f"metrics are {', '.join(f'`{item}`' for item in known)}",),
        help=did_you_mean(name, known)
        or "name a function of your own as `package.module:function`",
    )


def unmeasurable(metric: str, reason: str, way_out: str | None = None) -> Diagnostic:
    """QR713: outputs, labels and metric do not fit together."""
    return Diagnostic(Code.METRIC, f"`{metric}` {reason}", subject=metric, help=way_out)


def _top(k: int, name: str) -> Callable[[Outcome], tuple[float, int]]:
    def measure(outcome: Outcome) -> tuple[float, int]:
        logits, labels = _logits(name, outcome.outputs), _labels(name, outcome.labels)
        if logits.dim() > 2:
            logits, labels = outcome.own(logits), outcome.own(labels)
        if labels.shape != logits.shape[:-1]:
            reason = f"needs one label for each of {list(logits.shape)}, not {list(labels.shape)}"
            raise CompileError([unmeasurable(name, reason)])
        if labels.numel() and int(labels.max()) >= logits.shape[-1]:
            reason = (
                f"meets the label {int(labels.max())}, and there are {logits.shape[-1]} outputs"
            )
            raise CompileError([unmeasurable(name, reason, "labels count from 0")])
        best = logits.topk(min(k, logits.shape[-1]), dim=-1).indices
        hits = (best == labels.unsqueeze(-1)).any(-1)
        return float(hits.sum()), labels.numel()

    return measure


def _agreement(outcome: Outcome) -> tuple[float, int]:
    ours, theirs = _pair("agreement", outcome)
    if ours.dim() > 2:
        ours, theirs = outcome.own(ours), outcome.own(theirs)
    equal = ours.argmax(-1) == theirs.argmax(-1)
    return float(equal.sum()), equal.numel()


def _cosine(outcome: Outcome) -> tuple[float, int]:
    """Over each sample as one vector."""
    ours, theirs = (_vectors(one, outcome.mask) for one in _pair("cosine", outcome))
    similarity = F.cosine_similarity(ours, theirs, dim=1)
    return float(similarity.sum()), similarity.numel()


def _sqnr(outcome: Outcome) -> tuple[float, int]:
    """``10 log10(|reference|^2 / |outputs - reference|^2)`` of each sample, at most 150 dB."""
    ours, theirs = (_vectors(one, outcome.mask) for one in _pair("sqnr", outcome))
    signal = theirs.square().sum(1)
    noise = (ours - theirs).square().sum(1)
    ratio = torch.where(noise == 0, torch.inf, 10 * torch.log10(signal / noise))
    return float(ratio.clamp(max=EXACT_DB).sum()), ratio.numel()


def _perplexity(outcome: Outcome) -> tuple[float, int]:
    """Negative log likelihood of each next token: logits ``[B, T, V]``, labels ``[B, T]``."""
    name = "perplexity"
    logits, labels = _logits(name, outcome.outputs), _labels(name, outcome.labels)
    if logits.dim() != 3 or labels.shape != logits.shape[:2]:
        reason = f"needs logits [B, T, V] and labels [B, T], not {list(logits.shape)}"
        raise CompileError([unmeasurable(name, f"{reason} and {list(labels.shape)}")])
    if labels.shape[1] < 2:
        raise CompileError([unmeasurable(name, "needs two tokens of a text", "raise `seq_len`")])
    following = labels[:, 1:]
    if outcome.mask is not None and outcome.mask.shape == labels.shape:
        own = outcome.mask[:, 1:] & outcome.mask[:, :-1]  # padding may come first
        following = following.masked_fill(~own, IGNORED_LABEL)
    following = following.flatten()
    loss = F.cross_entropy(
        logits[:, :-1].flatten(0, 1).double(),
        following,
        ignore_index=IGNORED_LABEL,
        reduction="sum",
    )
    return float(loss), int((following != IGNORED_LABEL).sum())


METRICS: tuple[Metric, ...] = (
    Metric("top1", _top(1, "top1"), needs_labels=True),
    Metric("top5", _top(5, "top5"), needs_labels=True),
    Metric("agreement", _agreement, needs_reference=True),
    Metric("cosine", _cosine, needs_reference=True),
    Metric("sqnr", _sqnr, needs_reference=True),
    Metric("perplexity", _perplexity, needs_labels=True, higher_is_better=False, finish=math.exp),
)


def _user_measure(
    name: str, function: UserFunction, outcome: Outcome, project: Project
) -> tuple[float, int]:
    def call() -> tuple[float, int]:
        total, count = cast("tuple[float, int]", function(outcome.outputs, outcome.batch))
        return float(total), int(count)

    measured = run_user_code(call, project)
    if isinstance(measured, Raised):
        raise CompileError([raised(name, measured, METRIC)])
    return measured


def _pair(name: str, outcome: Outcome) -> tuple[Tensor, Tensor]:
    ours, theirs = _logits(name, outcome.outputs), _logits(name, outcome.reference)
    if ours.shape != theirs.shape:
        reason = f"compares outputs {list(ours.shape)} with {list(theirs.shape)}"
        raise CompileError([unmeasurable(name, reason)])
    return ours, theirs


def _logits(name: str, outputs: object) -> Tensor:
    found = primary_output(outputs)
    if found is None or found.dim() == 0:
        raise CompileError([unmeasurable(name, "finds no output tensor")])
    return found


def _labels(name: str, labels: Tensor | None) -> Tensor:
    if labels is None:
        way_out = 'name the tensor of the batch that holds them: `labels = "..."`'
        raise CompileError([unmeasurable(name, "needs labels", way_out)])
    if labels.is_floating_point():
        raise CompileError([unmeasurable(name, "needs integer labels")])
    return labels


def _vectors(outputs: Tensor, mask: Tensor | None) -> Tensor:
    """A sample is a vector; padding is zero in it."""
    found = outputs.detach().double()
    if mask is not None and found.dim() > 2 and found.shape[:2] == mask.shape:
        found = found * mask.view(*mask.shape, *[1] * (found.dim() - 2))
    return found.reshape(outputs.shape[0], -1)


def _first(values: Sequence[object]) -> Tensor | None:
    return next((value for value in values if isinstance(value, Tensor)), None)
