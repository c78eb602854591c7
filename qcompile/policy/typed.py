"""What an expression can be, once its names are known."""

from typing import TypeAlias, get_args

from qcompile.diagnostics.frozen import frozen
from qcompile.diagnostics.source import Span
from qcompile.policy.claim import Claim, Figure, FigureArithmetic, Measure
from qcompile.policy.regex import Regex
from qcompile.policy.selector import Constant, Fact, FactArithmetic, FactTerm, Selector


@frozen
class Text:
    """A string; where a selector is wanted, a glob."""

    value: str
    span: Span


@frozen
class PathRegex:
    regex: Regex
    span: Span


@frozen
class Flag:
    value: bool
    span: Span


@frozen
class SlotWord:
    slot: str
    span: Span


@frozen
class Interval:
    """``0..3``, both ends included."""

    first: int
    last: int
    span: Span


Typed: TypeAlias = (
    Selector | FactTerm | Figure | Claim | Text | PathRegex | Flag | SlotWord | Interval
)

FACT_TERMS = (Fact, FactArithmetic)
FIGURES = (*get_args(Measure), FigureArithmetic)
TERMS = (Constant, *FACT_TERMS, *FIGURES)
CLAIMS = get_args(Claim)


def is_selector(typed: Typed) -> bool:
    """Whether ``typed`` is a set of sites as it stands (a string is not yet one)."""
    others = (*TERMS, *CLAIMS, Text, PathRegex, Flag, SlotWord, Interval)
    return not isinstance(typed, others)


def describe(typed: Typed) -> str:
    """As a diagnostic calls it, after ``found``."""
    match typed:
        case Constant() | FigureArithmetic():
            return typed.dimension.value
        case Fact() | FactArithmetic():
            return "a number that each site has"
        case Text():
            return "a string"
        case PathRegex():
            return "a regular expression"
        case Flag():
            return "true or false"
        case SlotWord():
            return "a slot"
        case Interval():
            return "a range"
        case _ if isinstance(typed, FIGURES):
            return "a number that the plan has"
        case _ if isinstance(typed, CLAIMS):
            return "a statement that holds or not"
        case _:
            return "a selector"
