"""Markdown documents whose fenced recipes state which diagnostics they get.

A block has options ``name=value``. A comment ``# error: [QR301] "part"``
or ``# warning: ...`` at the end of a line asserts a diagnostic on that line; several may follow
each other. A line that holds nothing but such comments speaks of the next line of the recipe:
there are errors that would swallow a comment on their own line. Other comments are comments.
"""

import re
from dataclasses import dataclass
from pathlib import Path

FENCE = "```"

_ASSERTION = re.compile(
    r'#\s*(?P<severity>error|warning):\s*\[(?P<code>QR\d{3})\]\s*"(?P<part>[^"]*)"'
)
_LOOKS_LIKE_ASSERTION = re.compile(r"#\s*(error|warning):")


class MalformedDocument(Exception):
    """A document that would test less than its author thinks."""


@dataclass(frozen=True, slots=True)
class Expected:
    """A diagnostic that a block claims for its own 1-based ``line``."""

    line: int
    severity: str
    code: str
    part: str

    def __str__(self) -> str:
        return f'{self.severity}: [{self.code}] "{self.part}"'


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block; ``line`` is the 1-based line of its fence in the document."""

    heading: str
    line: int
    language: str
    options: dict[str, str]
    text: str


def blocks(document: str) -> list[Block]:
    """All fenced blocks in order, each with the last heading above it."""
    found: list[Block] = []
    heading = ""
    fence: tuple[int, str] | None = None
    body: list[str] = []
    for number, line in enumerate(document.splitlines(), start=1):
        if fence is not None and line.rstrip() == FENCE:
            found.append(_block(heading, fence, body))
            fence = None
        elif fence is not None:
            body.append(line)
        elif line.startswith(FENCE):
            fence, body = (number, line.removeprefix(FENCE)), []
        elif line.startswith("#"):
            heading = line.lstrip("#").strip()
    if fence is not None:
        raise MalformedDocument(f"line {fence[0]}: the fence is never closed")
    return found


def read(path: Path) -> list[Block]:
    return blocks(path.read_text(encoding="utf-8"))


def expected(block: Block) -> list[Expected]:
    """The diagnostics that the comments of ``block`` claim."""
    claims: list[Expected] = []
    waiting: list[re.Match[str]] = []
    for number, line in enumerate(block.text.splitlines(), start=1):
        matches = list(_ASSERTION.finditer(line))
        if len(_LOOKS_LIKE_ASSERTION.findall(line)) != len(matches):
            raise MalformedDocument(f"line {block.line + number}: not an assertion: {line.strip()}")
        waiting += matches
        if matches and line.lstrip().startswith("#"):
            continue
        claims += [
            Expected(number, match["severity"], match["code"], match["part"]) for match in waiting
        ]
        waiting = []
    if waiting:
        raise MalformedDocument(f"line {block.line}: the last assertion has no line below it")
    return claims


def _block(heading: str, fence: tuple[int, str], body: list[str]) -> Block:
    line, info = fence
    language, *rest = info.split()
    options = {}
    for word in rest:
        name, sign, value = word.partition("=")
        if not sign:
            raise MalformedDocument(f"line {line}: option `{word}` is not name=value")
        options[name] = value
    return Block(heading, line, language, options, "".join(f"{text}\n" for text in body))
