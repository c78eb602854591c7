"""Which line ends are statement ends, and how deep a text may nest.

Sits between Lark's lexer and its parser. Lark starts it afresh whenever the parser resumes after
an error, which is always at the start of a statement; its state is local to one such run.
"""

from collections.abc import Iterator

from lark import Token

from qcompile.syntax.limits import MAX_NESTING, MAX_OPERATORS, MAX_RULES, MAX_TOKENS

TOO_DEEP = "TOO_DEEP"
TOO_LONG = "TOO_LONG"
TOO_MANY_RULES = "TOO_MANY_RULES"
TOO_MANY_TOKENS = "TOO_MANY_TOKENS"
LIMIT_TOKENS = frozenset({TOO_DEEP, TOO_LONG, TOO_MANY_RULES, TOO_MANY_TOKENS})
"""Token types that no rule accepts: a limit reaches the user as any other unexpected token."""

_OPENERS = frozenset({"LPAR", "LSQB"})
_CLOSERS = frozenset({"RPAR", "RSQB"})
_OPERATORS = frozenset(
    {"OR", "AND_EXCEPT", "NOT", "IS", "CMP", "RANGE", "PLUS", "MINUS", "MULOP"},
)
_RULES = frozenset({"_USE", "_SET", "_SKIP", "_SHARE", "_CHOOSE", "_INCLUDE", "_WITHIN"})


class Newlines:
    """Lark's post-lexer of the language."""

    always_accept = ("_NL", "RBRACE", "RPAR", "RSQB", "RESERVED")

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        depth = _Depth()
        last: Token | None = None
        for token in stream:
            if token.type == "_NL" and (depth.in_brackets or _is_blank_after(last)):
                continue
            if token.type == "RBRACE" and not _is_blank_after(last):
                yield Token.new_borrow_pos("_NL", "", token)
            over = depth.enter(token)
            yield token if over is None else Token.new_borrow_pos(over, token.value, token)
            last = token
        if last is not None and not _is_blank_after(last):
            yield _line_end_after(last)


def _line_end_after(last: Token) -> Token:
    end, line, column = last.end_pos, last.end_line, last.end_column
    return Token("_NL", "", end, line, column, line, column, end)


def _is_blank_after(last: Token | None) -> bool:
    """Whether a line end after ``last`` separates nothing."""
    return last is None or last.type in ("_NL", "LBRACE")


class _Depth:
    """Depth of the tree that is being read: brackets, braces and operators above a token.

    Operators of neighbours in a list do not add up; ``_outer`` keeps, for each open bracket, how
    many stand above it and the most that one of its items had.
    """

    def __init__(self) -> None:
        self._outer: list[tuple[int, int]] = []
        self._braces = 0
        self._operators = 0
        self._rules = 0
        self._tokens = 0

    @property
    def in_brackets(self) -> bool:
        return bool(self._outer)

    def enter(self, token: Token) -> str | None:
        """Count ``token``; the type of the limit that it breaks, if it does."""
        kind = token.type
        self._tokens += 1
        if kind in _OPENERS:
            self._outer.append((self._operators, self._operators))
        elif kind in _CLOSERS:
            self._close()
        elif kind == "COMMA":
            self._next_item()
        elif kind in _OPERATORS:
            self._operators += 1
        elif kind in ("LBRACE", "RBRACE", "_NL"):
            self._end_statement(kind)
        elif kind in _RULES:
            self._rules += 1
        return self._broken_limit()

    def _close(self) -> None:
        if self._outer:
            _, deepest = self._outer.pop()
            self._operators = max(self._operators, deepest)

    def _next_item(self) -> None:
        if self._outer:
            above, deepest = self._outer[-1]
            self._outer[-1] = (above, max(self._operators, deepest))
            self._operators = above

    def _end_statement(self, kind: str) -> None:
        self._outer.clear()
        self._operators = 0
        self._braces = max(0, self._braces + {"LBRACE": 1, "RBRACE": -1}.get(kind, 0))

    def _broken_limit(self) -> str | None:
        if len(self._outer) + self._braces > MAX_NESTING:
            return TOO_DEEP
        if self._operators > MAX_OPERATORS:
            return TOO_LONG
        if self._rules > MAX_RULES:
            return TOO_MANY_RULES
        return TOO_MANY_TOKENS if self._tokens > MAX_TOKENS else None
