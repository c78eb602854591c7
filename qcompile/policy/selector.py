"""The typed selector: a set of sites, described."""

from typing import Literal, TypeAlias

from qcompile.diagnostics.frozen import frozen
from qcompile.diagnostics.source import Span
from qcompile.policy.dimension import Dimension
from qcompile.policy.glob import Glob
from qcompile.policy.regex import Regex
from qcompile.policy.site import Kind

Value: TypeAlias = int | float | tuple[int | float, ...]
Comparator: TypeAlias = Literal["==", "!=", "<", "<=", ">", ">="]
Relation: TypeAlias = Literal[
    "input_of", "inputs_of", "output_of", "follows", "precedes", "fused_with", "same_weight_as"
]
"""Direct: ``input_of`` (of all operands, as ``inputs_of``) and ``output_of``. Over any number of
sites: ``precedes`` and ``follows``."""
Operator: TypeAlias = Literal["+", "-", "*", "/", "%"]


@frozen
class Everything:
    """``any``."""

    span: Span


@frozen
class Pattern:
    """A glob or ``re"..."`` on the path of the site itself."""

    matcher: Glob | Regex
    span: Span


@frozen
class Inside:
    """``inside("layers.0")``: below a matched module; ``children``: directly below it."""

    matcher: Glob | Regex
    directly: bool
    span: Span


@frozen
class OfParameter:
    """``param("**.experts.w1")``: the sites whose weight has a path that fits."""

    matcher: Glob | Regex
    span: Span


@frozen
class Subtree:
    """A matched module together with all below it: what a pattern means in ``blocks``."""

    matcher: Glob | Regex
    span: Span


@frozen
class OfKind:
    kind: Kind
    span: Span


@frozen
class OfOp:
    """``type("torch.nn.Conv2d")`` or ``op("operator.add")``, exactly."""

    op: str
    span: Span


@frozen
class HasFact:
    """A fact that is true or false."""

    fact: Literal["depthwise", "shared"]
    span: Span


@frozen
class Constant:
    """A number in base units (bytes, seconds, percent) or a list of plain numbers."""

    value: Value
    dimension: Dimension
    span: Span


@frozen
class Fact:
    """A number, or a list of numbers, of each site; it does not apply to every site."""

    name: str
    dimension: Dimension
    span: Span


@frozen
class FactArithmetic:
    op: Operator
    left: "FactTerm"
    right: "FactTerm"
    dimension: Dimension
    span: Span


FactTerm: TypeAlias = Constant | Fact | FactArithmetic


@frozen
class Compare:
    """The sites of which the comparison holds; none of those that lack one of its facts."""

    op: Comparator
    left: FactTerm
    right: FactTerm
    span: Span


@frozen
class AllOf:
    """``and``; ``a except b`` is ``a and not b``."""

    items: tuple["Selector", ...]
    span: Span


@frozen
class AnyOf:
    items: tuple["Selector", ...]
    span: Span


@frozen
class Not:
    item: "Selector"
    span: Span


@frozen
class Nth:
    """One site of ``item`` in execution order, from 0; negative numbers count from the end."""

    item: "Selector"
    number: int
    span: Span


@frozen
class Stretch:
    """``A .. B``: from the first site of ``A`` to the last of ``B`` in execution order."""

    first: "Selector"
    last: "Selector"
    span: Span


@frozen
class Related:
    """``follows(S)`` and the like: the sites in that relation to at least one of ``item``."""

    relation: Relation
    item: "Selector"
    span: Span


@frozen
class Named:
    """A ``select`` or ``let`` used by its name, at ``span``."""

    name: str
    item: "Selector"
    span: Span


@frozen
class WithScheme:
    """Sites whose last whole scheme is this one (only known when the policy has run)."""

    scheme: str
    span: Span


@frozen
class IsQuantized:
    """Sites with at least one tensor in low precision, or with none."""

    quantized: bool
    span: Span


@frozen
class InBlocks:
    """Sites of the blocks ``first`` to ``last`` (from 0, both included)."""

    first: int
    last: int
    span: Span


Leaf: TypeAlias = (
    Everything
    | Pattern
    | Inside
    | OfParameter
    | Subtree
    | OfKind
    | OfOp
    | HasFact
    | Compare
    | WithScheme
    | IsQuantized
    | InBlocks
)
Selector: TypeAlias = Leaf | AllOf | AnyOf | Not | Nth | Stretch | Related | Named
