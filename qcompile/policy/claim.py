"""What ``expect`` and ``prefer`` can say about a resolved plan."""

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
    """``size``: bytes of all tensors on disk; ``macs``: of one sample of the example input."""

    which: Literal["size", "macs"]
    dimension: Dimension
    span: Span


@frozen
class FigureArithmetic:
    op: Operator
    left: "Figure"
    right: "Figure"
    dimension: Dimension
    span: Span


Measure: TypeAlias = Count | SiteBits | SlotBits | Total
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
