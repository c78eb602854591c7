"""The canonical layout of a recipe: what depends on its words and comments, never on its blanks.

Two spaces of indent; one statement, rule or setting a line; at most one blank line between two.
A row longer than ``WIDTH`` is broken before ``or``, then before ``and`` and ``except``, which
continue it; where these do not help, inside brackets, one item a line.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from qcompile.syntax.atoms import Atom, Remark
from qcompile.syntax.pieces import Group, Piece, Row, first, gap, is_plain, last, one_line
from qcompile.syntax.roles import Role

WIDTH = 100
_STEP = 2


def lay_out(rows: Sequence[Row], end: Atom) -> str:
    page = _Page()
    page.rows(rows, end, 0)
    return "".join(f"{line.shown()}\n" for line in page.lines)


@dataclass(slots=True)
class _Line:
    indent: int
    text: str = ""
    comment: str = ""
    last: Role | None = None

    @property
    def width(self) -> int:
        return self.indent + len(self.text)

    def shown(self) -> str:
        text = f"{' ' * self.indent}{self.text}"
        return f"{text}{'  ' if self.text else ''}{self.comment}" if self.comment else text.rstrip()


class _Page:
    """The lines so far; what is written goes to the end of the last one."""

    def __init__(self) -> None:
        self.lines: list[_Line] = []

    @property
    def line(self) -> _Line:
        return self.lines[-1]

    def rows(self, rows: Sequence[Row], close: Atom, indent: int) -> None:
        """Write the rows of a block, and the comments between the last one and its end."""
        start = len(self.lines)
        for row in rows:
            head = first(row)
            self._remarks(head.above, indent, start)
            self._blank(head.after_blank, start)
            self._begin(indent)
            self._row(row, indent)
        self._remarks(close.above, indent, start)

    def _row(self, row: Row, indent: int) -> None:
        tail = row[-1]
        if not isinstance(tail, Group) or tail.open.role not in (Role.OPEN_BLOCK, Role.OPEN_RECORD):
            self._sequence(row, 0)
        elif tail.open.role is Role.OPEN_RECORD and self._fits(row, 0):
            self._write(row)
        else:
            self._sequence(row[:-1], len(" {"))
            self._write((tail.open,))
            if tail.rows or tail.close.above or tail.open.beside:
                self.rows(tail.rows, tail.close, indent + _STEP)
                self._begin(indent)
            self._write((tail.close,))

    def _sequence(self, row: Sequence[Piece], room: int, deeper: int = 0) -> None:
        """Write words of one row, if need be on several lines.

        ``room`` is for what follows; ``deeper`` sets ``and`` apart from the ``or`` around it.
        """
        if self._fits(row, room):
            self._write(row)
            return
        for role in (Role.OR, Role.AND):
            parts = _split(row, role)
            if len(parts) > 1:
                self._chain(parts, room, self.line.indent + _STEP + deeper)
                return
        self._words(row, room)

    def _chain(self, parts: Sequence[Row], room: int, indent: int) -> None:
        self._sequence(parts[0], 0, _STEP)
        for part in parts[1:]:
            self._continue(first(part), indent)
            self._sequence(part, room if part is parts[-1] else 0)

    def _words(self, row: Sequence[Piece], room: int) -> None:
        indent = self.line.indent + _STEP
        for index, piece in enumerate(row):
            if index and (self.line.comment or first((piece,)).above):
                self._continue(first((piece,)), indent)
            if isinstance(piece, Group) and not self._fits((piece,), room + _after(row, index)):
                self._open(piece)
            else:
                self._write((piece,))

    def _open(self, group: Group) -> None:
        """Write one item a line, between the lines of its brackets."""
        indent = self.line.indent
        self._write((group.open,))
        for row in group.rows:
            self._continue(first(row), indent + _STEP)
            self._sequence(row, len(","))
            if row is not group.rows[-1]:
                self.line.text += ","
        self._continue(group.close, indent)
        self._write((group.close,))

    def _continue(self, word: Atom, indent: int) -> None:
        """Begin a line for ``word``, below its comments."""
        inner = indent + (_STEP if word.role is Role.CLOSE else 0)
        for remark in word.above:
            self.lines.append(_Line(inner, comment=remark.text))
        self._begin(indent)

    def _remarks(self, remarks: Sequence[Remark], indent: int, start: int) -> None:
        for remark in remarks:
            self._blank(remark.after_blank, start)
            self.lines.append(_Line(indent, comment=remark.text))

    def _blank(self, wanted: bool, start: int) -> None:
        """Keep one blank line, but none before the first line of a block."""
        if wanted and len(self.lines) > start:
            self._begin(0)

    def _begin(self, indent: int) -> None:
        self.lines.append(_Line(indent))

    def _fits(self, row: Sequence[Piece], room: int) -> bool:
        between = len(gap(self.line.last, first(row).role)) if self.line.last else 0
        width = self.line.width + between + len(one_line(row)) + room
        return is_plain(row) and width <= WIDTH

    def _write(self, row: Sequence[Piece]) -> None:
        line = self.line
        between = gap(line.last, first(row).role) if line.last else ""
        line.text += f"{between}{one_line(row)}"
        line.last = last(row).role
        line.comment = last(row).beside


def _split(row: Sequence[Piece], role: Role) -> list[Row]:
    """Parts that begin with the operators of ``role``, all but the first."""
    starts = [
        index
        for index, piece in enumerate(row)
        if index and isinstance(piece, Atom) and piece.role is role
    ]
    return [tuple(row[a:b]) for a, b in zip([0, *starts], [*starts, len(row)], strict=True)]


def _after(row: Sequence[Piece], index: int) -> int:
    """Width of the words after a group that go on its last line, as far as it matters."""
    width = 0
    for piece in islice(row, index + 1, None):
        if isinstance(piece, Group) or width > WIDTH:
            break
        width += len(f" {piece.text}")
    return width
