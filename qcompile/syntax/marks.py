"""Strings, comments, brackets and line ends of a text, found without a parser.

For text that no parser accepts, and for what the parser's lexer throws away. A string that is
not closed ends with its line.
"""

import re
from collections.abc import Iterator

_STRING_OR_COMMENT = r'"(?:\\.|[^"\\\n])*"?|\#[^\n]*'
_MARK = re.compile(rf"{_STRING_OR_COMMENT}|[{{}}()\[\]]")
_COMMENT = re.compile(_STRING_OR_COMMENT)
_STATEMENT_MARK = re.compile(rf"{_STRING_OR_COMMENT}|[{{}}()\[\];]|\n[ \t]*(?P<word>\w*)")

CLOSER = {"{": "}", "(": ")", "[": "]"}
_CONTINUES = frozenset({"and", "or", "except"})


def comments(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of each comment, the mark included, the line end excluded."""
    for match in _COMMENT.finditer(text):
        if match.group().startswith("#"):
            yield match.start(), match.start() + len(match.group().rstrip("\r"))


def open_brackets(text: str, end: int) -> list[tuple[str, int]]:
    """Brackets opened before ``end`` and not closed there, outermost first.

    A ``}`` also closes every ``(`` and ``[`` after its ``{``: those hold no blocks.
    """
    found: list[tuple[str, int]] = []
    for match in _MARK.finditer(text, 0, end):
        mark = match.group()
        if mark in CLOSER:
            found.append((mark, match.start()))
        elif mark == "}":
            while found and found.pop()[0] != "{":
                pass
        elif mark in (")", "]") and found and CLOSER[found[-1][0]] == mark:
            found.pop()
    return found


def statement_end(text: str, start: int, starters: frozenset[str]) -> int:
    """Where the statement around ``start`` ends: at a line end, a ``;`` or the ``}`` around it.

    Blocks inside it are stepped over. Inside brackets a line ends the statement only if it begins
    with one of ``starters``, as far as a broken text lets us know what is inside what.
    """
    around = open_brackets(text, start)
    brackets = sum(1 for _ in _trailing_brackets(around))
    braces = 0
    for match in _STATEMENT_MARK.finditer(text, start):
        mark = match.group()[0]
        if mark == "{":
            braces += 1
        elif mark == "}":
            if not braces:
                return match.start()
            braces -= 1
        elif mark in "([":
            brackets += 1
        elif mark in ")]":
            brackets = max(0, brackets - 1)
        elif mark in "\n;" and not braces and _ends_here(match, brackets, starters):
            return match.start()
    return len(text)


def _trailing_brackets(found: list[tuple[str, int]]) -> Iterator[str]:
    for bracket, _ in reversed(found):
        if bracket == "{":
            return
        yield bracket


def _ends_here(match: re.Match[str], brackets: int, starters: frozenset[str]) -> bool:
    word = match.group("word")
    if brackets:
        return word in starters
    return word not in _CONTINUES
