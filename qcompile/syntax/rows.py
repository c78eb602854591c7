"""Statements that hold rows of their own between braces."""

from typing import TypeAlias

from qcompile.syntax.nodes import (
    Attr,
    BlockEach,
    BlockGroup,
    BlocksBlock,
    BudgetBlock,
    CalibrateBlock,
    EvaluateBlock,
    Import,
    Limit,
    ModelBlock,
    Objective,
    OutputBlock,
    PolicyDef,
    Prepare,
    Rule,
    SchemeDef,
    SlotFloat,
    SlotPatch,
    SlotSet,
    Statement,
    TargetBlock,
    TuneBlock,
    Within,
)

Row: TypeAlias = (
    Attr | SlotSet | SlotPatch | SlotFloat | Rule | BlockEach | BlockGroup | Limit | Objective
)
Line: TypeAlias = Statement | Row
"""What stands on a line of its own, alone or before a block."""


def rows_of(node: Line) -> tuple[Row, ...] | None:
    """Rows of a block; ``None`` for what has no block."""
    match node:
        case SchemeDef():
            return node.slots
        case PolicyDef() | Within():
            return node.rules
        case BlocksBlock() | BudgetBlock():
            return node.items
        case CalibrateBlock() | EvaluateBlock() | OutputBlock():
            return node.attrs
        case Import() | ModelBlock() | TargetBlock() | Prepare() | TuneBlock():
            return node.attrs
        case _:
            return None


def may_lack_block(node: Line) -> bool:
    """Whether the braces may be left out when there is nothing between them."""
    return isinstance(node, Import | ModelBlock | TargetBlock | Prepare | TuneBlock)
