"""The tree of a recipe as it was written: frozen nodes, each with its span.

Nothing here is resolved or checked; ``plan.lower`` gives these nodes their meaning.
"""

from typing import TypeAlias

from qcompile.diagnostics.frozen import frozen
from qcompile.diagnostics.source import Span
from qcompile.syntax.marks import comments


@frozen
class Name:
    text: str
    span: Span


# ---- expressions ------------------------------------------------------------------------------


@frozen
class Number:
    """``12``, ``1e-3``, ``20_000``; an ``int`` exactly when written without ``.`` or ``e``."""

    value: int | float
    span: Span


@frozen
class Quantity:
    """A number with its unit attached: ``60MB``, ``99.9%``, ``1M``."""

    value: int | float
    unit: str
    span: Span


@frozen
class String:
    """``"..."`` with its escapes resolved."""

    value: str
    span: Span


@frozen
class Regex:
    """``re"..."``: the pattern between the quotes, untouched."""

    pattern: str
    span: Span


@frozen
class Bool:
    value: bool
    span: Span


@frozen
class Ref:
    """A name, possibly qualified: ``conv``, ``std.w8a8``."""

    parts: tuple[str, ...]
    span: Span

    @property
    def text(self) -> str:
        return ".".join(self.parts)


@frozen
class SlotRef:
    """``weight``, ``act``, ``act2``, ``bias`` or ``kv`` used as a value."""

    slot: str
    span: Span


@frozen
class FloatWord:
    """The word ``float`` used as a selector: nodes that stay in float."""

    span: Span


@frozen
class Arg:
    """One argument of a call; ``name`` for ``name=value``."""

    name: Name | None
    value: "Expr"
    span: Span


@frozen
class Call:
    func: Ref
    args: tuple[Arg, ...]
    span: Span


@frozen
class ListExpr:
    items: tuple["Expr", ...]
    span: Span


@frozen
class Index:
    """``float32[1, 3, 224, 224]``."""

    base: "Expr"
    args: tuple[Arg, ...]
    span: Span


@frozen
class Unary:
    """``op`` is ``not`` or ``-``."""

    op: str
    operand: "Expr"
    span: Span


@frozen
class Binary:
    """``op`` is one of ``and or except is == != < <= > >= + - * / % ..``."""

    op: str
    left: "Expr"
    right: "Expr"
    span: Span


@frozen
class Record:
    """``{ input_ids = int64[batch, seq] }``: the value of a setting, never an operand."""

    attrs: tuple["Attr", ...]
    span: Span


Expr: TypeAlias = (
    Number
    | Quantity
    | String
    | Regex
    | Bool
    | Ref
    | SlotRef
    | FloatWord
    | Call
    | ListExpr
    | Record
    | Index
    | Unary
    | Binary
)

# ---- statements -------------------------------------------------------------------------------


@frozen
class Attr:
    """``name = value`` inside a block."""

    name: Name
    value: Expr
    span: Span


@frozen
class Import:
    """``attrs`` are values of the library's parameters."""

    path: String
    alias: Name | None
    attrs: tuple[Attr, ...]
    span: Span


@frozen
class Let:
    name: Name
    value: Expr
    span: Span


@frozen
class Param:
    name: Name
    type: Name
    default: Expr | None
    domain: Expr | None
    span: Span


@frozen
class Select:
    name: Name
    value: Expr
    span: Span


@frozen
class ModelBlock:
    reference: String
    attrs: tuple[Attr, ...]
    span: Span


@frozen
class TargetBlock:
    target: String
    attrs: tuple[Attr, ...]
    span: Span


@frozen
class Modifier:
    """``symmetric``, ``per_group(128)``, ``observer=mse``: at most one of ``args``, ``value``."""

    name: Name
    args: tuple[Arg, ...] | None
    value: Expr | None
    span: Span


@frozen
class SlotSet:
    """``weight int4 symmetric per_channel``; several formats for a residual sum."""

    slot: Name
    formats: tuple[Name, ...]
    modifiers: tuple[Modifier, ...]
    span: Span


@frozen
class SlotPatch:
    """``weight with bits=8``."""

    slot: Name
    modifiers: tuple[Modifier, ...]
    span: Span


@frozen
class SlotFloat:
    """``act float``."""

    slot: Name
    span: Span


@frozen
class SchemeDef:
    name: Name
    base: Ref | None
    slots: tuple[SlotSet | SlotPatch | SlotFloat, ...]
    span: Span


@frozen
class Use:
    scheme: Ref
    selector: Expr
    final: bool
    optional: bool
    span: Span


@frozen
class SetField:
    """``set weight.bits = 8 for S`` or, without a slot, ``set untie = true for S``."""

    slot: Name | None
    field: Name
    value: Expr
    selector: Expr
    final: bool
    optional: bool
    span: Span


@frozen
class Skip:
    selector: Expr
    final: bool
    optional: bool
    span: Span


@frozen
class Share:
    what: Name
    selector: Expr
    span: Span


@frozen
class Choose:
    schemes: tuple[Ref, ...]
    selector: Expr
    span: Span


@frozen
class Include:
    policy: Ref
    span: Span


@frozen
class Within:
    """``within "decoder.**" { ... }``: every rule inside, narrowed by ``scope``."""

    scope: Expr
    rules: tuple["Rule", ...]
    span: Span


Rule: TypeAlias = Use | SetField | Skip | Share | Choose | Include | Within


@frozen
class PolicyDef:
    name: Name
    base: Ref | None
    rules: tuple[Rule, ...]
    span: Span


@frozen
class Prepare:
    """``prepare smoothquant for S { alpha = 0.5 }``."""

    transform: Name
    selector: Expr | None
    attrs: tuple[Attr, ...]
    span: Span


@frozen
class BlockEach:
    selector: Expr
    span: Span


@frozen
class BlockGroup:
    name: Name
    selector: Expr
    span: Span


@frozen
class BlocksBlock:
    items: tuple[BlockEach | BlockGroup | Attr, ...]
    span: Span


@frozen
class Limit:
    """One row of a budget: ``size <= 60MB``."""

    expr: Expr
    span: Span


@frozen
class Objective:
    """``minimize loss_increase``; ``direction`` is ``minimize`` or ``maximize``."""

    direction: Name
    expr: Expr
    span: Span


@frozen
class BudgetBlock:
    items: tuple[Limit | Objective, ...]
    span: Span


@frozen
class CalibrateBlock:
    label: Name | None
    attrs: tuple[Attr, ...]
    span: Span


@frozen
class EvaluateBlock:
    """``evaluate top1 { data = "..."; batch = 100 }``."""

    metric: Name
    attrs: tuple[Attr, ...]
    span: Span


@frozen
class TuneBlock:
    preset: Name
    selector: Expr | None
    attrs: tuple[Attr, ...]
    span: Span


@frozen
class OutputBlock:
    attrs: tuple[Attr, ...]
    span: Span


@frozen
class Assertion:
    """``expect EXPR, "reason"``; ``otherwise`` is the scheme after ``else`` of a ``require``."""

    kind: Name
    expr: Expr
    reason: String | None
    otherwise: Ref | None
    span: Span


Statement: TypeAlias = (
    Import
    | Let
    | Param
    | Select
    | ModelBlock
    | TargetBlock
    | SchemeDef
    | PolicyDef
    | Prepare
    | BlocksBlock
    | BudgetBlock
    | CalibrateBlock
    | EvaluateBlock
    | TuneBlock
    | OutputBlock
    | Assertion
)


@frozen
class Comment:
    """``# ...`` to the end of the line, the mark included; ``##`` documents what follows."""

    text: str
    span: Span


@frozen
class RecipeFile:
    """One file: its language version and its statements in order."""

    version: Number
    statements: tuple[Statement, ...]
    span: Span

    @property
    def comments(self) -> tuple[Comment, ...]:
        """Every comment, looked up at each call: only who moves or keeps text asks for them."""
        source = self.span.source
        spans = (Span(source, start, end) for start, end in comments(self.span.text))
        return tuple(Comment(span.text, span) for span in spans)
