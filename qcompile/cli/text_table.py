"""Rows of cells as lines of text, each column as wide as its widest cell."""

from collections.abc import Collection, Sequence

INDENT = "  "


def text_table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[int]
) -> list[str]:
    """``right`` are the columns whose cells end at the same place."""
    table = [headings, *rows]
    widths = [max(len(row[place]) for row in table) for place in range(len(headings))]
    return [_line(row, widths, right) for row in table]


def _line(cells: Sequence[str], widths: Sequence[int], right: Collection[int]) -> str:
    padded = [
        cell.rjust(width) if place in right else cell.ljust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return (INDENT + "  ".join(padded)).rstrip()
