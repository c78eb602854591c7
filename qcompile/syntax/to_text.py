"""The tree of a recipe as text."""

from collections.abc import Mapping, Sequence

from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.source import Source
from qcompile.syntax.comment_places import Place, Placed, placed_comments
from qcompile.syntax.expression_text import number
from qcompile.syntax.format import formatted
from qcompile.syntax.head_text import head
from qcompile.syntax.meaning import same_meaning
from qcompile.syntax.nodes import RecipeFile, Statement
from qcompile.syntax.parse import parse
from qcompile.syntax.rows import Line, may_lack_block, rows_of


def to_text(file: RecipeFile) -> str:
    """Canonical text whose tree is ``file``, spans apart.

    Raises for a tree that no text has, which no text of ours has yielded.
    """
    text = text_of(file, placed_comments(file), file.span.source.name)
    if not isinstance(text, str):
        raise AssertionError(f"no text says what the tree of `{file.span.source.name}` says")
    return text


def text_of(
    file: RecipeFile, comments: Sequence[Placed], name: str, note: str = ""
) -> str | list[Diagnostic] | None:
    """The same with ``comments`` in place of those of ``file``; ``name`` and ``note`` to show it.

    Diagnostics where the grammar refuses a part of the tree, ``None`` where it reads it as
    something else.
    """
    source = Source(name, _Writer(comments).written(file), note)
    again, problems = parse(source)
    if again is None:
        return problems
    kept = [comment.text for comment in again.comments] == [one.text for one in comments]
    return formatted(again, source) if kept and same_meaning(file, again) else None


class _Writer:
    """Writes each line of the tree with the comments that belong to it; the formatter indents."""

    def __init__(self, comments: Sequence[Placed]) -> None:
        self._lines: list[str] = []
        self._comments = _by_place(comments)

    def written(self, file: RecipeFile) -> str:
        self._lines += self._at(Place.TOP, ())
        self._lines.append(f"qrecipe {number(file.version.value)}")
        self._end_line(Place.VERSION, ())
        for index, statement in enumerate(file.statements):
            if not index or _are_apart(file.statements[index - 1], statement):
                self._lines.append("")
            self._write(statement, (index,))
        self._lines += self._at(Place.CLOSING, ())
        return "".join(f"{line}\n" for line in self._lines)

    def _write(self, line: Line, at: tuple[int, ...]) -> None:
        self._lines += self._at(Place.BEFORE, at)
        self._lines.append(head(line))
        rows = rows_of(line)
        if rows or (rows is not None and not (may_lack_block(line) and self._is_empty(at))):
            self._lines[-1] += " {"
            self._end_line(Place.OPENING, at)
            for index, row in enumerate(rows):
                self._write(row, (*at, index))
            self._lines += self._at(Place.CLOSING, at)
            self._lines.append("}")
        self._end_line(Place.BESIDE, at)

    def _end_line(self, place: Place, at: tuple[int, ...]) -> None:
        self._lines[-1] = "  ".join([self._lines[-1], *self._at(place, at)])

    def _is_empty(self, at: tuple[int, ...]) -> bool:
        return not self._at(Place.OPENING, at) and not self._at(Place.CLOSING, at)

    def _at(self, place: Place, at: tuple[int, ...]) -> list[str]:
        return self._comments.get((place, at), [])


def _by_place(comments: Sequence[Placed]) -> Mapping[tuple[Place, tuple[int, ...]], list[str]]:
    found: dict[tuple[Place, tuple[int, ...]], list[str]] = {}
    for comment in comments:
        found.setdefault((comment.place, comment.at), []).append(comment.text)
    return found


def _are_apart(one: Statement, other: Statement) -> bool:
    """Whether a blank line parts the two: all but short statements of one kind."""
    return type(one) is not type(other) or bool(rows_of(other))
