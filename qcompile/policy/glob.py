"""Anchored globs over dotted module paths.

``*`` any characters within one segment, ``**`` (a segment of its own) any number of segments,
``?`` one character, ``[0-9]`` and ``[!0-9]`` one of a class, ``{a,b}`` alternatives; a backslash
takes the next character literally. Case matters, and nothing matches a part of a path.
"""

from dataclasses import field
from itertools import pairwise, product, takewhile
from typing import TypeAlias

from qcompile.diagnostics.frozen import frozen
from qcompile.policy.wildcard import matches

MAX_ALTERNATIVES = 256
"""Patterns that the braces of one glob may stand for."""

SPECIAL = "*?[{\\"


@frozen
class AnyRun:
    """``*``."""


@frozen
class OneOf:
    """One character in (or, negated, outside) the inclusive ranges; ``?`` is outside none."""

    ranges: tuple[tuple[str, str], ...]
    negated: bool

    def holds(self, char: str) -> bool:
        return any(low <= char <= high for low, high in self.ranges) is not self.negated


@frozen
class AnySegments:
    """``**``."""


Token: TypeAlias = str | AnyRun | OneOf
"""A ``str`` is one literal character."""

Segment: TypeAlias = tuple[Token, ...]
Segments: TypeAlias = tuple[Segment | AnySegments, ...]

ANY_ONE = OneOf((), negated=True)


class InvalidGlob(ValueError):
    """The text is not a glob; the message says why, in the words of a diagnostic."""


@frozen
class Glob:
    text: str
    alternatives: tuple[Segments, ...] = field(repr=False)
    ends: tuple[tuple[str, str], ...] = field(repr=False)
    """What a path begins and ends with, if it fits the alternative: most of them need no more."""

    def matches(self, path: str) -> bool:
        segments = path.split(".") if path else []
        return any(
            path.startswith(first)
            and path.endswith(last)
            and matches(one, segments, lambda item: isinstance(item, AnySegments), _segment_fits)
            for one, (first, last) in zip(self.alternatives, self.ends, strict=True)
        )


def parse_glob(text: str) -> Glob:
    """Raise ``InvalidGlob`` where ``text`` is not one."""
    alternatives = tuple(_segments(one) for one in _without_braces(text))
    return Glob(text, alternatives, tuple((_first(one), _last(one)) for one in alternatives))


def _first(segments: Segments) -> str:
    """The literal text before the first wildcard."""
    found: list[str] = []
    for segment in segments:
        if isinstance(segment, AnySegments):
            break
        literal = list(takewhile(_is_literal, segment))
        found.append("".join(map(str, literal)))
        if len(literal) < len(segment):
            break
    return ".".join(found)


def _last(segments: Segments) -> str:
    """The literal text behind the last wildcard of the last segment."""
    last = segments[-1]
    if isinstance(last, AnySegments):
        return ""
    literal = list(takewhile(_is_literal, reversed(last)))
    return "".join(map(str, reversed(literal)))


def _is_literal(token: Token) -> bool:
    return isinstance(token, str)


def escape_glob(path: str) -> str:
    """The glob that matches exactly ``path``."""
    return "".join(f"\\{char}" if char in SPECIAL else char for char in path)


def _segment_fits(pattern: Segment | AnySegments, segment: str) -> bool:
    if isinstance(pattern, AnySegments):
        return False
    return matches(pattern, segment, lambda token: isinstance(token, AnyRun), _token_fits)


def _token_fits(token: Token, char: str) -> bool:
    match token:
        case str():
            return token == char
        case OneOf():
            return token.holds(char)
        case AnyRun():
            return False


def _without_braces(text: str) -> list[str]:
    """The patterns that ``text`` stands for, for example ``a.{b,c}`` for ``a.b`` and ``a.c``."""
    parts: list[list[str]] = [[""]]
    total = 1
    at = 0
    while at < len(text):
        if text[at] != "{":
            step = _literal_end(text, at)
            parts[-1] = [one + text[at:step] for one in parts[-1]]
            at = step
            continue
        choices, at = _braces(text, at)
        total *= len(choices)
        if total > MAX_ALTERNATIVES:
            raise InvalidGlob(f"the braces stand for more than {MAX_ALTERNATIVES} patterns")
        parts += [choices, [""]]
    return ["".join(one) for one in product(*parts)]


def _literal_end(text: str, at: int) -> int:
    """End of the class, escape or character at ``at``, in which braces have no meaning."""
    if text[at] == "\\":
        return min(at + 2, len(text))
    if text[at] == "[":
        return _class_end(text, at)
    return at + 1


def _braces(text: str, at: int) -> tuple[list[str], int]:
    choices = [""]
    at += 1
    while at < len(text):
        match text[at]:
            case "}":
                return choices, at + 1
            case "{":
                raise InvalidGlob("braces cannot be nested")
            case ",":
                choices.append("")
                at += 1
            case _:
                end = _literal_end(text, at)
                choices[-1] += text[at:end]
                at = end
    raise InvalidGlob("a `{` is never closed")


def _class_end(text: str, at: int) -> int:
    """Offset after the ``]``; a ``]`` directly after ``[`` or ``[!`` is a member of the class."""
    first = at + 2 if text[at + 1 : at + 2] in ("!", "^") else at + 1
    end = text.find("]", first + 1)
    if end < 0:
        raise InvalidGlob("a `[` is never closed")
    return end + 1


def _segments(text: str) -> Segments:
    segments: list[list[Token]] = [[]]
    at = 0
    while at < len(text):
        char = text[at]
        if char == ".":
            segments.append([])
            at += 1
            continue
        end = _literal_end(text, at)
        segments[-1].append(_token(text[at:end]))
        at = end
    return tuple(_segment(tuple(one)) for one in segments)


def _token(piece: str) -> Token:
    match piece[0]:
        case "*":
            return AnyRun()
        case "?":
            return ANY_ONE
        case "[":
            return _class(piece[1:-1])
        case "\\":
            if len(piece) == 1:
                raise InvalidGlob("a backslash at the end takes nothing literally")
            return piece[1]
        case _:
            return piece


def _class(body: str) -> OneOf:
    negated = body[0] in "!^"
    body = body[1:] if negated else body
    ranges: list[tuple[str, str]] = []
    at = 0
    while at < len(body):
        if body[at + 1 : at + 2] == "-" and at + 2 < len(body):
            low, high = body[at], body[at + 2]
            if low > high:
                raise InvalidGlob(f"the range `{low}-{high}` is empty")
            ranges.append((low, high))
            at += 3
        else:
            ranges.append((body[at], body[at]))
            at += 1
    return OneOf(tuple(ranges), negated)


def _segment(tokens: Segment) -> Segment | AnySegments:
    if tokens == (AnyRun(), AnyRun()):
        return AnySegments()
    if not tokens:
        raise InvalidGlob("a part between two dots is empty")
    if any(isinstance(a, AnyRun) and isinstance(b, AnyRun) for a, b in pairwise(tokens)):
        raise InvalidGlob("`**` must stand alone between two dots")
    return tokens
