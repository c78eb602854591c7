"""Lark's trees of expressions to nodes.

Recursive: the post-lexer has bounded the depth of what it is given. Chains of one operator come
as one flat branch and are folded from the left.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

from lark import Token

from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.source import Source, Span
from qcompile.syntax import literals
from qcompile.syntax.branches import (
    Branch,
    Child,
    branches,
    children,
    outer_span_of,
    span_of,
    token,
    tree,
)
from qcompile.syntax.nodes import (
    Arg,
    Attr,
    Binary,
    Bool,
    Call,
    Expr,
    FloatWord,
    Index,
    ListExpr,
    Name,
    Number,
    Record,
    Ref,
    SlotRef,
    String,
    Unary,
)


class Expressions:
    """Builds expressions of one source; what is wrong with literals goes to ``problems``."""

    def __init__(self, source: Source, problems: list[Diagnostic]) -> None:
        self.source = source
        self.problems = problems

    def expr(self, child: Child) -> Expr:
        branch = tree(child)
        return _BUILDERS[branch.data](self, branch)

    def optional(self, child: Child) -> Expr | None:
        return None if child is None else self.expr(child)

    def span(self, child: Token | Branch) -> Span:
        return span_of(child, self.source)

    def name(self, child: Child) -> Name:
        word = token(child)
        return Name(str(word), self.span(word))

    def string(self, child: Child) -> String:
        return literals.string(self.span(token(child)), self.problems)

    def number(self, child: Child) -> Number:
        return literals.number(self.span(token(child)), self.problems)

    def optional_name(self, child: Child) -> Name | None:
        return None if child is None else self.name(child)

    def optional_string(self, child: Child) -> String | None:
        return None if child is None else self.string(child)

    def optional_ref(self, child: Child) -> Ref | None:
        return None if child is None else self.ref(child)

    def ref(self, child: Child) -> Ref:
        branch = tree(child)
        return Ref(tuple(str(token(part)) for part in branch.children), self.span(branch))

    def args(self, child: Child) -> tuple[Arg, ...]:
        if child is None:
            return ()
        return tuple(self._arg(branch) for branch in branches(tree(child)))

    def attrs(self, child: Child) -> tuple[Attr, ...]:
        if child is None:
            return ()
        return tuple(self.attr(branch) for branch in branches(tree(child)))

    def attr(self, branch: Branch) -> Attr:
        name, value = children(branch)
        return Attr(self.name(name), self.expr(value), self.span(branch))

    def record(self, branch: Branch) -> Record:
        return Record(self.attrs(branch), self.span(branch))

    def literal(self, branch: Branch) -> Expr:
        word = token(children(branch)[0])
        span = self.span(word)
        match word.type:
            case "INT" | "NUMBER":
                return literals.number(span, self.problems)
            case "QUANTITY":
                return literals.quantity(span, self.problems)
            case "STRING":
                return literals.string(span, self.problems)
            case "REGEX":
                return literals.regex(span, self.problems)
            case _:
                return Bool(word == "true", span)

    def call(self, branch: Branch) -> Call:
        function, args = children(branch)
        return Call(self.ref(function), self.args(args), self.span(branch))

    def index(self, branch: Branch) -> Index:
        base, args = children(branch)
        return Index(self.expr(base), self.args(args), self.span(branch))

    def list_expr(self, branch: Branch) -> ListExpr:
        return ListExpr(tuple(self.expr(item) for item in branches(branch)), self.span(branch))

    def slot_ref(self, branch: Branch) -> SlotRef:
        return SlotRef(str(token(children(branch)[0])), self.span(branch))

    def float_word(self, branch: Branch) -> FloatWord:
        return FloatWord(self.span(branch))

    def prefixed(self, branch: Branch) -> Unary:
        operator, operand = children(branch)
        return Unary(str(token(operator)), self.expr(operand), self.span(branch))

    def chain(self, branch: Branch) -> Expr:
        """Fold from the left: ``a - b - c`` is ``(a - b) - c``."""
        first, *rest = children(branch)
        start = outer_span_of(tree(first), self.source)
        left = self.expr(first)
        for operator, operand in zip(rest[::2], rest[1::2], strict=True):
            span = start.to(outer_span_of(tree(operand), self.source))
            left = Binary(str(token(operator)), left, self.expr(operand), span)
        return left

    def _arg(self, branch: Branch) -> Arg:
        if branch.data != "named_arg":
            return Arg(None, self.expr(branch), outer_span_of(branch, self.source))
        name, value = children(branch)
        return Arg(self.name(name), self.expr(value), self.span(branch))


_Build: TypeAlias = Callable[[Expressions, Branch], Expr]
_BUILDERS: Mapping[str, _Build] = MappingProxyType(
    {
        "or_expr": Expressions.chain,
        "and_expr": Expressions.chain,
        "comparison": Expressions.chain,
        "range_expr": Expressions.chain,
        "sum": Expressions.chain,
        "product": Expressions.chain,
        "not_expr": Expressions.prefixed,
        "negative": Expressions.prefixed,
        "index": Expressions.index,
        "call": Expressions.call,
        "ref": Expressions.ref,
        "list_expr": Expressions.list_expr,
        "slot_ref": Expressions.slot_ref,
        "float_word": Expressions.float_word,
        "literal": Expressions.literal,
        "record": Expressions.record,
    }
)
