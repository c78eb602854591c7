"""The words of a recipe with the comments and blank lines around them: what a layout arranges.

The words are those of the parser's own lexer, and no others: a second tokenizer would sooner or
later split ``1e-3`` in three.
"""

from collections.abc import Iterable
from dataclasses import replace

from qcompile.diagnostics.frozen import frozen
from qcompile.diagnostics.source import Source
from qcompile.syntax.grammar import parser
from qcompile.syntax.nodes import Comment
from qcompile.syntax.roles import Role, roles


@frozen
class Remark:
    """A comment on a line of its own."""

    text: str
    after_blank: bool


@frozen
class Atom:
    """One word; ``beside`` is the comment that ends its line."""

    role: Role
    text: str
    above: tuple[Remark, ...] = ()
    after_blank: bool = False
    beside: str = ""


def atoms(source: Source, comments: Iterable[Comment]) -> list[Atom]:
    """Words of a text that parses, and whose comments these are; the last one is ``END``."""
    tokens = parser().parse_interactive(source.text).exhaust_lexer()
    found = _Attached(source.text, comments)
    for token, role in zip(tokens, roles([token.type for token in tokens]), strict=True):
        found.add(role, token.start_pos or 0, token.end_pos or 0)
    return found.ended()


class _Attached:
    """Collects atoms; each comment goes beside the word before it or above the one after it."""

    def __init__(self, text: str, comments: Iterable[Comment]) -> None:
        self._text = text
        self._comments = list(reversed(tuple(comments)))
        self._atoms: list[Atom] = []
        self._above: list[Remark] = []
        self._last: int | None = None
        self._reached = 0

    def add(self, role: Role, start: int, end: int) -> None:
        if role is Role.SEPARATOR:
            self._atoms.append(Atom(role, ""))
            return
        while self._comments and self._comments[-1].span.start < start:
            self._attach(self._comments.pop())
        above, after_blank = tuple(self._above), self._line_ends_before(start) > 1
        self._above.clear()
        self._last = len(self._atoms)
        self._atoms.append(Atom(role, self._text[start:end], above, after_blank))
        self._reached = end

    def ended(self) -> list[Atom]:
        end = len(self._text)
        self.add(Role.END, end, end)
        return self._atoms

    def _attach(self, comment: Comment) -> None:
        line_ends = self._line_ends_before(comment.span.start)
        text = comment.text.rstrip()
        if line_ends == 0 and self._last is not None and not self._above:
            self._atoms[self._last] = replace(self._atoms[self._last], beside=text)
        else:
            self._above.append(Remark(text, after_blank=line_ends > 1))
        self._reached = comment.span.end

    def _line_ends_before(self, start: int) -> int:
        return self._text.count("\n", self._reached, start)
