"""Words grouped by their brackets, and the text of such a group on one line."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TypeAlias

from qcompile.diagnostics.frozen import frozen
from qcompile.syntax.atoms import Atom
from qcompile.syntax.roles import Role

Piece: TypeAlias = "Atom | Group"
Row: TypeAlias = tuple[Piece, ...]
"""A statement, a rule, a setting or an item in brackets."""


@frozen
class Group:
    """Brackets or braces and the rows between them, which nothing but separators parted."""

    open: Atom
    rows: tuple[Row, ...]
    close: Atom


_OPENERS = frozenset({Role.OPEN, Role.OPEN_CALL, Role.OPEN_BLOCK, Role.OPEN_RECORD})
_CLOSERS = frozenset({Role.CLOSE, Role.CLOSE_BRACE, Role.END})
_TOUCH_NEXT = frozenset({Role.OPEN, Role.OPEN_CALL, Role.TIGHT, Role.PREFIX})
_TOUCH_PREVIOUS = frozenset({Role.OPEN_CALL, Role.CLOSE, Role.TIGHT, Role.SUFFIX})
_COMMA = Atom(Role.SUFFIX, ",")


def grouped(atoms: Sequence[Atom]) -> tuple[tuple[Row, ...], Atom]:
    """Rows of a whole text, and its ``END``."""
    return _rows(iter(atoms))


def first(row: Sequence[Piece]) -> Atom:
    piece = row[0]
    return piece.open if isinstance(piece, Group) else piece


def last(row: Sequence[Piece]) -> Atom:
    piece = row[-1]
    return piece.close if isinstance(piece, Group) else piece


def one_line(row: Sequence[Piece]) -> str:
    """Text without comments; canonical, so that it also measures what would fit."""
    words = list(_words(row))
    if not words:
        return ""
    rest = (f"{gap(a.role, b.role)}{b.text}" for a, b in pairwise(words))
    return words[0].text + "".join(rest)


def is_plain(row: Sequence[Piece]) -> bool:
    """Whether no comment is in the way of one line; above it and at its end they are not."""
    words = list(_words(row))
    return not any(word.above for word in words[1:]) and not any(w.beside for w in words[:-1])


def gap(left: Role, right: Role) -> str:
    """What stands between two words of one line."""
    if left in _TOUCH_NEXT or right in _TOUCH_PREVIOUS:
        return ""
    return "" if right is Role.CLOSE_BRACE and left in _OPENERS else " "


def _rows(atoms: Iterator[Atom]) -> tuple[tuple[Row, ...], Atom]:
    found: list[Row] = []
    row: list[Piece] = []
    for atom in atoms:
        if atom.role in _OPENERS:
            rows, close = _rows(atoms)
            row.append(Group(atom, rows, close))
            continue
        if atom.role is not Role.SEPARATOR and atom.role not in _CLOSERS:
            row.append(atom)
            continue
        if row:
            found.append(tuple(row))
            row = []
        if atom.role in _CLOSERS:
            return tuple(found), atom
    raise AssertionError("the words of a recipe end with `END`")


def _words(row: Sequence[Piece]) -> Iterator[Atom]:
    for piece in row:
        if isinstance(piece, Atom):
            yield piece
            continue
        yield piece.open
        for index, inner in enumerate(piece.rows):
            if index:
                yield _COMMA
            yield from _words(inner)
        yield piece.close
