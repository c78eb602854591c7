"""Source text and spans in it."""

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import NamedTuple


class Location(NamedTuple):
    """A place a person can find; both numbers are 1-based and count characters."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Source:
    r"""One text with the name it is shown under.

    Line ends are ``\n`` (a ``\r`` before it belongs to the line and is never printed).
    """

    name: str
    text: str
    note: str = ""
    """After the name wherever a place is shown: the file of that name holds another text."""
    _starts: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        starts = [0]
        starts.extend(i + 1 for i, char in enumerate(self.text) if char == "\n")
        object.__setattr__(self, "_starts", tuple(starts))

    def location(self, offset: int) -> Location:
        line = bisect_right(self._starts, offset)
        return Location(line, offset - self._starts[line - 1] + 1)

    def line_start(self, line: int) -> int:
        """Offset of the first character of a 1-based line."""
        return self._starts[line - 1]

    def line(self, line: int) -> str:
        """Text of a 1-based line without its line end."""
        start = self._starts[line - 1]
        end = self._starts[line] - 1 if line < len(self._starts) else len(self.text)
        return self.text[start:end].rstrip("\r")

    def span(self, start: int, end: int) -> "Span":
        return Span(self, start, end)


@dataclass(frozen=True, slots=True)
class Span:
    """Characters ``[start, end)`` of a source; offsets are 0-based."""

    source: Source
    start: int
    end: int

    @property
    def text(self) -> str:
        return self.source.text[self.start : self.end]

    @property
    def location(self) -> Location:
        return self.source.location(self.start)

    def to(self, other: "Span") -> "Span":
        """Give the smallest span that covers this one and ``other`` (of the same source)."""
        return Span(self.source, min(self.start, other.start), max(self.end, other.end))

    def __str__(self) -> str:
        line, column = self.location
        return f"{self.source.name}{self.source.note}:{line}:{column}"
