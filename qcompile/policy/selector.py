"""The typed selector: a set of sites, described."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from qcompile.diagnostics.source import Span
from qcompile.policy.dimension import Dimension
from qcompile.policy.glob import Glob
from qcompile.policy.regex import Regex
from qcompile.policy.site import Kind

Value: TypeAlias = int | float | tuple[int | float, ...]
Comparator: TypeAlias = Literal["==", "!=", "<", "<=", ">", ">="]
Operator: TypeAlias = Literal["+", "-", "*", "/", "%"]


@dataclass(frozen=True, slots=True)
class Everything:
    """``any``."""

    span: Span


@dataclass(frozen=True, slots=True)
class Pattern:
    """A glob or ``re"..."`` on the path of the site itself."""

    matcher: Glob | Regex
    span: Span


@dataclass(frozen=True, slots=True)
class Inside:
    """``inside("layers.0")``: below a matched module; ``children``: directly below it."""

    matcher: Glob | Regex
    directly: bool
    span: Span


@dataclass(frozen=True, slots=True)
class Subtree:
    """A matched module together with all below it: what a pattern means in ``blocks``."""

    matcher: Glob | Regex
    span: Span


@dataclass(frozen=True, slots=True)
class OfKind:
    kind: Kind
    span: Span


@dataclass(frozen=True, slots=True)
class OfOp:
    """``type("torch.nn.Conv2d")`` or ``op("operator.add")``, exactly."""

    op: str
    span: Span


@dataclass(frozen=True, slots=True)
class HasFact:
    """A fact that is true or false."""

    fact: Literal["depthwise", "shared"]
    span: Span


@dataclass(frozen=True, slots=True)
class Constant:
    """A number in base units (bytes, seconds, percent) or a list of plain numbers."""

    value: Value
    dimension: Dimension
    span: Span


@dataclass(frozen=True, slots=True)
class Fact:
    """A number, or a list of numbers, of each site; it does not apply to every site."""

    name: str
    dimension: Dimension
    span: Span


@dataclass(frozen=True, slots=True)
class FactArithmetic:
    op: Operator
    left: "FactTerm"
    right: "FactTerm"
    dimension: Dimension
    span: Span


FactTerm: TypeAlias = Constant | Fact | FactArithmetic


@dataclass(frozen=True, slots=True)
class Compare:
    """The sites of which the comparison holds; none of those that lack one of its facts."""

    op: Comparator
    left: FactTerm
    right: FactTerm
    span: Span


@dataclass(frozen=True, slots=True)
class AllOf:
    """``and``; ``a except b`` is ``a and not b``."""

    items: tuple["Selector", ...]
    span: Span


@dataclass(frozen=True, slots=True)
class AnyOf:
    items: tuple["Selector", ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Not:
    item: "Selector"
    span: Span


@dataclass(frozen=True, slots=True)
class Nth:
    """One site of ``item`` in execution order, from 0; negative numbers count from the end."""

    item: "Selector"
    number: int
    span: Span


@dataclass(frozen=True, slots=True)
class Stretch:
    """``A .. B``: from the first site of ``A`` to the last of ``B`` in execution order."""

    first: "Selector"
    last: "Selector"
    span: Span


@dataclass(frozen=True, slots=True)
class Named:
    """A ``select`` or ``let`` used by its name, at ``span``."""

    name: str
    item: "Selector"
    span: Span


@dataclass(frozen=True, slots=True)
class WithScheme:
    """Sites whose last whole scheme is this one (only known when the policy has run)."""

    scheme: str
    span: Span


@dataclass(frozen=True, slots=True)
class IsQuantized:
    """Sites with at least one tensor in low precision, or with none."""

    quantized: bool
    span: Span


@dataclass(frozen=True, slots=True)
class InBlocks:
    """Sites of the blocks ``first`` to ``last`` (from 0, both included)."""

    first: int
    last: int
    span: Span


Leaf: TypeAlias = (
    Everything
    | Pattern
    | Inside
    | Subtree
    | OfKind
    | OfOp
    | HasFact
    | Compare
    | WithScheme
    | IsQuantized
    | InBlocks
)
Selector: TypeAlias = Leaf | AllOf | AnyOf | Not | Nth | Stretch | Named
