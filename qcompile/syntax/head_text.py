"""The line of a statement, a rule or a row as text, up to its block if it has one."""

import re
from collections.abc import Sequence
from functools import cache
from typing import assert_never

from qcompile.syntax.expression_text import arguments, expression, operand, quoted, setting
from qcompile.syntax.nodes import (
    Assertion,
    Attr,
    BlockEach,
    BlockGroup,
    BlocksBlock,
    BudgetBlock,
    CalibrateBlock,
    Choose,
    EvaluateBlock,
    Expr,
    Import,
    Include,
    Let,
    Limit,
    ModelBlock,
    Modifier,
    Name,
    Objective,
    OutputBlock,
    Param,
    PolicyDef,
    Prepare,
    Ref,
    SchemeDef,
    Select,
    SetField,
    Share,
    Skip,
    SlotFloat,
    SlotPatch,
    SlotSet,
    TargetBlock,
    TuneBlock,
    Use,
    Within,
)
from qcompile.syntax.rows import Line
from qcompile.syntax.words import keywords

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_Rule = Use | SetField | Skip | Share | Choose | Include | Within
_Slot = SlotSet | SlotPatch | SlotFloat
_Row = BlockEach | BlockGroup | Limit | Objective | Attr
_Definition = Import | Let | Param | Select | SchemeDef | PolicyDef | Assertion


def head(node: Line) -> str:
    match node:
        case Use() | SetField() | Skip() | Share() | Choose() | Include() | Within():
            return _rule(node)
        case SlotSet() | SlotPatch() | SlotFloat():
            return _slot(node)
        case BlockEach() | BlockGroup() | Limit() | Objective() | Attr():
            return _row(node)
        case Import() | Let() | Param() | Select() | SchemeDef() | PolicyDef() | Assertion():
            return _definition(node)
        case _:
            return _block(node)


def _definition(node: _Definition) -> str:
    match node:
        case Import():
            return f"import {quoted(node.path)}{_optional(' as ', node.alias)}"
        case Let():
            return f"let {node.name.text} = {expression(node.value)}"
        case Param():
            default, domain = _value(" = ", node.default), _value(" in ", node.domain)
            return f"param {node.name.text}: {node.type.text}{default}{domain}"
        case Select():
            return f"select {node.name.text} = {expression(node.value)}"
        case SchemeDef():
            return f"scheme {node.name.text}{_optional(' extends ', node.base)}"
        case PolicyDef():
            return f"policy {node.name.text}{_optional(' extends ', node.base)}"
        case Assertion():
            reason = "" if node.reason is None else f", {quoted(node.reason)}"
            otherwise = _optional(" else ", node.otherwise)
            return f"{node.kind.text} {expression(node.expr)}{otherwise}{reason}"
        case _:
            assert_never(node)


def _block(
    node: ModelBlock
    | TargetBlock
    | Prepare
    | TuneBlock
    | CalibrateBlock
    | EvaluateBlock
    | OutputBlock
    | BlocksBlock
    | BudgetBlock,
) -> str:
    match node:
        case ModelBlock():
            return f"model {quoted(node.reference)}"
        case TargetBlock():
            return f"target {quoted(node.target)}"
        case Prepare():
            return f"prepare {node.transform.text}{_value(' for ', node.selector)}"
        case TuneBlock():
            return f"tune {node.preset.text}{_value(' for ', node.selector)}"
        case CalibrateBlock():
            return f"calibrate{_optional(' ', node.label)}"
        case EvaluateBlock():
            return f"evaluate {_metric(node.metric)}"
        case OutputBlock():
            return "output"
        case BlocksBlock():
            return "blocks"
        case BudgetBlock():
            return "budget"
        case _:
            assert_never(node)


def _rule(node: _Rule) -> str:
    match node:
        case Use():
            return f"{_prefix(node)}use {node.scheme.text} for {expression(node.selector)}"
        case SetField():
            field = f"{_optional('', node.slot, '.')}{node.field.text}"
            change = f"{field} = {expression(node.value)}"
            return f"{_prefix(node)}set {change} for {expression(node.selector)}"
        case Skip():
            return f"{_prefix(node)}skip {expression(node.selector)}"
        case Share():
            return f"share {node.what.text} for {expression(node.selector)}"
        case Choose():
            schemes = ", ".join(scheme.text for scheme in node.schemes)
            return f"choose {schemes} for {expression(node.selector)}"
        case Include():
            return f"include {node.policy.text}"
        case Within():
            return f"within {expression(node.scope)}"
        case _:
            assert_never(node)


def _slot(node: _Slot) -> str:
    match node:
        case SlotSet():
            formats = " + ".join(name.text for name in node.formats)
            return f"{node.slot.text} {formats}{_modifiers(node.modifiers)}"
        case SlotPatch():
            return f"{node.slot.text} with{_modifiers(node.modifiers)}"
        case SlotFloat():
            return f"{node.slot.text} float"
        case _:
            assert_never(node)


def _row(node: _Row) -> str:
    match node:
        case Attr():
            return setting(node)
        case BlockEach():
            return f"each {expression(node.selector)}"
        case BlockGroup():
            return f"group {node.name.text} = {expression(node.selector)}"
        case Limit():
            return expression(node.expr)
        case Objective():
            return f"{node.direction.text} {expression(node.expr)}"
        case _:
            assert_never(node)


def _prefix(rule: Use | SetField | Skip) -> str:
    return f"{'final ' if rule.final else ''}{'optional ' if rule.optional else ''}"


def _modifiers(modifiers: Sequence[Modifier]) -> str:
    return "".join(f" {_modifier(modifier)}" for modifier in modifiers)


def _modifier(modifier: Modifier) -> str:
    if modifier.value is not None:
        return f"{modifier.name.text}={operand(modifier.value)}"
    if modifier.args is not None:
        return f"{modifier.name.text}({arguments(modifier.args)})"
    return modifier.name.text


def _metric(name: Name) -> str:
    """Quote a reference, and a word of the language."""
    is_name = _IDENTIFIER.fullmatch(name.text) and name.text not in _words()
    return name.text if is_name else quoted(name)


@cache
def _words() -> frozenset[str]:
    return frozenset(word for words in keywords().values() for word in words)


def _optional(before: str, name: Name | Ref | None, after: str = "") -> str:
    return "" if name is None else f"{before}{name.text}{after}"


def _value(before: str, node: Expr | None) -> str:
    return "" if node is None else f"{before}{expression(node)}"
