"""Comments by the line of the tree that they belong to, instead of by their offset.

Rough where a recipe is rough: a comment inside a row counts as one above that row.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from enum import Enum

from qcompile.diagnostics.frozen import frozen
from qcompile.diagnostics.source import Source
from qcompile.syntax.marks import open_brackets
from qcompile.syntax.nodes import RecipeFile
from qcompile.syntax.rows import Line, rows_of


class Place(Enum):
    TOP = "top"
    """Above ``qrecipe 1``."""
    VERSION = "version"
    """On its line."""
    BEFORE = "before"
    """On a line of its own, above the statement or row ``at``."""
    BESIDE = "beside"
    """On the last line of the statement or row ``at``."""
    OPENING = "opening"
    """On the line of the ``{`` of ``at``."""
    CLOSING = "closing"
    """Above the ``}`` of ``at``, or at the end of the file."""


@frozen
class Placed:
    """``at`` leads to a line: index of its statement, of a row in that, and so on."""

    text: str
    place: Place
    at: tuple[int, ...] = ()


def placed_comments(file: RecipeFile) -> tuple[Placed, ...]:
    return tuple(_placed(file))


def _placed(file: RecipeFile) -> Iterator[Placed]:
    source = file.span.source
    for comment in file.comments:
        offset, text = comment.span.start, comment.text.rstrip()
        if offset < file.version.span.start:
            yield Placed(text, Place.TOP)
        elif "\n" not in source.text[file.version.span.end : offset] and not _follows(file, offset):
            yield Placed(text, Place.VERSION)
        else:
            place, at = _among(file.statements, offset, source)
            yield Placed(text, place, at)


def _follows(file: RecipeFile, offset: int) -> bool:
    return bool(file.statements) and file.statements[0].span.start < offset


def _among(lines: Sequence[Line], offset: int, source: Source) -> tuple[Place, tuple[int, ...]]:
    index = bisect_left(lines, offset, key=lambda line: line.span.start) - 1
    if index >= 0:
        line = lines[index]
        if offset < line.span.end:
            place, at = _inside(line, offset, source)
            return place, (index, *at)
        if "\n" not in source.text[line.span.end : offset]:
            return Place.BESIDE, (index,)
    return (Place.BEFORE, (index + 1,)) if index + 1 < len(lines) else (Place.CLOSING, ())


def _inside(line: Line, offset: int, source: Source) -> tuple[Place, tuple[int, ...]]:
    rows = rows_of(line)
    if rows is None:
        return Place.BEFORE, ()
    if not rows or offset < rows[0].span.start:
        head = source.text[line.span.start : offset]
        braces = [start for mark, start in open_brackets(head, len(head)) if mark == "{"]
        if not braces:
            return Place.BEFORE, ()
        if "\n" not in head[braces[0] :]:
            return Place.OPENING, ()
    return _among(rows, offset, source)
