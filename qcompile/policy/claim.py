"""What ``expect``, ``prefer``, ``require`` and a ``budget`` can say of a plan or a run."""

from collections.abc import Iterator
from typing import Literal, TypeAlias

from qcompile.diagnostics.frozen import frozen
from qcompile.diagnostics.source import Span
from qcompile.policy.dimension import Dimension
from qcompile.policy.selector import Comparator, Constant, Operator, Selector


@frozen
class Count:
    selector: Selector
    dimension: Dimension
    span: Span


@frozen
class SiteBits:
    """``bits(S)``: weight bits of each site of ``S``; of its first operand if it has no weight."""

    selector: Selector
    dimension: Dimension
    span: Span


@frozen
class SlotBits:
    """Over all quantized tensors of a slot; the average of weights counts each element."""

    which: Literal["min_bits", "max_bits", "avg_bits"]
    slot: Literal["weight", "act"]
    dimension: Dimension
    span: Span


@frozen
class Total:
    """``size``: bytes of all tensors on disk; ``macs``: of one sample of the example input.

    ``ops`` are two for each of ``macs``: a multiplication and an addition.
    """

    which: Literal["size", "macs", "ops"]
    dimension: Dimension
    span: Span


@frozen
class AfterRun:
    """What is measured when the run is over; ``RUN_FIGURES`` says how."""

    which: "RunFigure"
    dimension: Dimension
    span: Span


@frozen
class Resource:
    """What a run takes of the machine: wall time, peak memory, disk."""

    which: "ResourceName"
    dimension: Dimension
    span: Span


@frozen
class Predicted:
    """``loss_increase``: the sum of what a ``choose`` costs each layer by itself, in nats."""

    which: Literal["loss_increase"]
    dimension: Dimension
    span: Span


@frozen
class FigureArithmetic:
    op: Operator
    left: "Figure"
    right: "Figure"
    dimension: Dimension
    span: Span


ResourceName: TypeAlias = Literal["time", "ram", "disk"]
RunFigure: TypeAlias = Literal[
    "accuracy_drop",
    "perplexity_ratio",
    "top1",
    "top5",
    "perplexity",
    "agreement",
    "cosine",
    "sqnr",
]
RUN_FIGURES: tuple[tuple[RunFigure, Dimension], ...] = (
    ("accuracy_drop", Dimension.PERCENT),
    ("perplexity_ratio", Dimension.NUMBER),
    ("top1", Dimension.PERCENT),
    ("top5", Dimension.PERCENT),
    ("perplexity", Dimension.NUMBER),
    ("agreement", Dimension.PERCENT),
    ("cosine", Dimension.NUMBER),
    ("sqnr", Dimension.DECIBEL),
)
"""``accuracy_drop``: points that top-1 (or what ``evaluate`` names first) falls from the float
model's; ``perplexity_ratio``: quantized to float."""

Measure: TypeAlias = Count | SiteBits | SlotBits | Total | AfterRun | Resource | Predicted
Figure: TypeAlias = Constant | Measure | FigureArithmetic


@frozen
class CompareFigures:
    """With ``bits(S)``: the comparison holds for every site of ``S``, and there is one."""

    op: Comparator
    left: Figure
    right: Figure
    span: Span


@frozen
class Exists:
    """``exists(S)``, or ``none(S)`` where ``wanted`` is false."""

    selector: Selector
    wanted: bool
    span: Span


@frozen
class EveryIs:
    """``all(S is T)``: every site of ``selector`` is in ``target``, and there is one."""

    selector: Selector
    target: Selector
    span: Span


@frozen
class AllClaims:
    items: tuple["Claim", ...]
    span: Span


@frozen
class AnyClaim:
    items: tuple["Claim", ...]
    span: Span


@frozen
class NotClaim:
    item: "Claim"
    span: Span


Claim: TypeAlias = CompareFigures | Exists | EveryIs | AllClaims | AnyClaim | NotClaim


def measures(claim: Claim) -> Iterator[Measure]:
    """Every figure that ``claim`` looks at, in the order of the text."""
    match claim:
        case AllClaims(items) | AnyClaim(items):
            for item in items:
                yield from measures(item)
        case NotClaim(item):
            yield from measures(item)
        case CompareFigures(_, left, right):
            yield from _measures(left)
            yield from _measures(right)
        case Exists() | EveryIs():
            pass


def _measures(figure: Figure) -> Iterator[Measure]:
    if isinstance(figure, FigureArithmetic):
        yield from _measures(figure.left)
        yield from _measures(figure.right)
    elif not isinstance(figure, Constant):
        yield figure


def word_figure(text: str, span: Span) -> Measure | None:
    """A figure that is a word of the language."""
    match text:
        case "size":
            return Total(text, Dimension.BYTES, span)
        case "macs" | "ops":
            return Total(text, Dimension.NUMBER, span)
        case "loss_increase":
            return Predicted(text, Dimension.NUMBER, span)
        case "time":
            return Resource(text, Dimension.TIME, span)
        case "ram" | "disk":
            return Resource(text, Dimension.BYTES, span)
        case _:
            return next((AfterRun(*row, span) for row in RUN_FIGURES if row[0] == text), None)


FIGURE_WORDS = (
    *("size", "macs", "ops", "time", "ram", "disk", "loss_increase"),
    *(name for name, _ in RUN_FIGURES),
)
