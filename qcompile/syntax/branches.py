"""Typed access to Lark's trees, whose children may be anything."""

from typing import TypeAlias, cast

from lark import Token, Tree

from qcompile.diagnostics.source import Source, Span

Branch: TypeAlias = Tree[Token]
Child: TypeAlias = Token | Branch | None
"""None stands for an optional part that is absent."""


def children(branch: Branch) -> list[Child]:
    return cast("list[Child]", branch.children)


def branches(branch: Branch) -> list[Branch]:
    return [child for child in children(branch) if isinstance(child, Tree)]


def token(child: Child) -> Token:
    assert isinstance(child, Token)
    return child


def tree(child: Child) -> Branch:
    assert isinstance(child, Tree)
    return child


def span_of(child: Token | Branch, source: Source) -> Span:
    """Give the text of a phrase without parentheses around it."""
    if isinstance(child, Token):
        return source.span(child.start_pos or 0, child.end_pos or 0)
    return source.span(child.meta.start_pos, child.meta.end_pos)


def outer_span_of(branch: Branch, source: Source) -> Span:
    """Give the text of a phrase and of the parentheses around it.

    Lark notes the extent of what an inlined rule took in as the *container* of what remains.
    """
    meta = branch.meta
    start = cast("int", getattr(meta, "container_start_pos", meta.start_pos))
    end = cast("int", getattr(meta, "container_end_pos", meta.end_pos))
    return source.span(start, end)
