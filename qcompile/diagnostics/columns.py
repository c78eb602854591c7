"""Text as a terminal shows it: safe to print, and how many columns it takes."""

from unicodedata import category, east_asian_width

TAB = "    "

_CONTROL_PICTURES = 0x2400
DIRECTION = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Direction marks: they can make text read as what it is not (Boucher and Anderson, 2111.00169)."""


def printable(text: str) -> str:
    """Replace what would move the cursor, colour the terminal or reorder the text.

    Line ends stay; each other character keeps its column, except that a tab becomes four blanks.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_printable, text))


def columns(text: str) -> int:
    """Count terminal columns: a tab takes four, a wide character two, an accent none."""
    if text.isascii() and text.isprintable():
        return len(text)
    return sum(map(_columns, text))


def _printable(char: str) -> str:
    if char == "\t":
        return TAB
    if char == "\n" or char.isprintable():
        return char
    if ord(char) < ord(" "):
        return chr(_CONTROL_PICTURES + ord(char))
    if category(char) == "Zs":
        return " " * _columns(char)
    return char if _columns(char) == 0 else "\N{REPLACEMENT CHARACTER}"


def _columns(char: str) -> int:
    if char == "\t":
        return len(TAB)
    if char not in DIRECTION and category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if east_asian_width(char) in "WF" else 1
