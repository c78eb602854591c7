"""Regular expressions that can be matched in time ``O(len(pattern) * len(text))``.

Concatenation, ``.``, classes, ``|``, groups and ``* + ?``, where nothing that repeats holds
something that repeats. A pattern matches a whole text; ``^`` in front and ``$`` at the end may be
written. Everything else is refused, so that no library decides whether a recipe is valid.
"""

from dataclasses import field
from typing import TypeAlias

from qcompile.diagnostics.frozen import frozen
from qcompile.syntax.limits import MAX_REGEX

MAX_NESTING = 32

CLASSES: dict[str, tuple[tuple[str, str], ...]] = {
    "d": (("0", "9"),),
    "w": (("0", "9"), ("A", "Z"), ("_", "_"), ("a", "z")),
    "s": (("\t", "\r"), (" ", " ")),
}
"""ASCII only."""


class UnsafeRegex(ValueError):
    """Outside the subset; ``start`` and ``end`` are offsets in the pattern."""

    def __init__(self, reason: str, start: int, end: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.start = start
        self.end = end


@frozen
class Chars:
    """One character in (or, negated, outside) the inclusive ranges."""

    ranges: tuple[tuple[str, str], ...]
    negated: bool = False

    def holds(self, char: str) -> bool:
        return any(low <= char <= high for low, high in self.ranges) is not self.negated


@frozen
class Sequence:
    items: tuple["Node", ...]


@frozen
class Alternation:
    items: tuple["Node", ...]


@frozen
class Repeat:
    """``*``: ``least`` 0, not ``once``; ``+``: 1, not ``once``; ``?``: 0, ``once``."""

    item: "Node"
    least: int
    once: bool


Node: TypeAlias = Chars | Sequence | Alternation | Repeat


@frozen
class State:
    """Reads one character and goes on to ``after``, or, without ``reads``, goes there at once."""

    reads: Chars | None
    after: tuple[int, ...]


@frozen
class Regex:
    """A Thompson automaton: state 0 accepts, ``start`` begins (Thompson 1968)."""

    text: str
    states: tuple[State, ...] = field(repr=False)
    start: int = field(repr=False)

    def matches(self, text: str) -> bool:
        current = self._closure({self.start})
        for char in text:
            reached: set[int] = set()
            for number in current:
                state = self.states[number]
                if state.reads is not None and state.reads.holds(char):
                    reached.update(state.after)
            if not reached:
                return False
            current = self._closure(reached)
        return 0 in current

    def _closure(self, seeds: set[int]) -> set[int]:
        closed = set(seeds)
        waiting = list(seeds)
        while waiting:
            state = self.states[waiting.pop()]
            if state.reads is not None:
                continue
            fresh = [number for number in state.after if number not in closed]
            closed.update(fresh)
            waiting.extend(fresh)
        return closed


def parse_regex(text: str) -> Regex:
    """Raise ``UnsafeRegex`` where ``text`` is outside the subset."""
    if len(text) > MAX_REGEX:
        raise UnsafeRegex(f"longer than {MAX_REGEX} characters", 0, len(text))
    node = _Reader(text).read()
    states = [State(None, ())]
    start = _compile(node, 0, states)
    return Regex(text, tuple(states), start)


def _compile(node: Node, then: int, states: list[State]) -> int:
    """Append the states of ``node``, which go on to ``then``; return the first of them."""
    match node:
        case Chars():
            states.append(State(node, (then,)))
        case Sequence(items):
            for item in reversed(items):
                then = _compile(item, then, states)
            return then
        case Alternation(items):
            states.append(State(None, tuple(_compile(item, then, states) for item in items)))
        case Repeat(item, least, once):
            if once:
                states.append(State(None, (_compile(item, then, states), then)))
            else:
                loop = len(states)
                states.append(State(None, ()))
                first = _compile(item, loop, states)
                states[loop] = State(None, (first, then))
                return first if least else loop
    return len(states) - 1


class _Reader:
    """Recursive descent, one character of look-ahead."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 1 if text.startswith("^") else 0
        self.end = len(text)
        if text.endswith("$") and not _is_escaped(text, len(text) - 1):
            self.end -= 1
        self.depth = 0

    def read(self) -> Node:
        node, _ = self._alternation()
        if self.at < self.end:
            raise self._refuse("this `)` closes nothing", 1)
        return node

    def _alternation(self) -> tuple[Node, bool]:
        """The node, and whether something in it repeats."""
        items: list[Node] = []
        repeats = False
        while True:
            item, repeated = self._sequence()
            items.append(item)
            repeats |= repeated
            if self._peek() != "|":
                return (items[0] if len(items) == 1 else Alternation(tuple(items))), repeats
            self.at += 1

    def _sequence(self) -> tuple[Node, bool]:
        items: list[Node] = []
        repeats = False
        while self._peek() not in ("", "|", ")"):
            begin = self.at
            item, repeated = self._atom()
            sign = self._peek()
            if sign and sign in "*+?":
                if repeated:
                    raise UnsafeRegex("a repetition inside a repetition", begin, self.at + 1)
                item = Repeat(item, int(sign == "+"), once=sign == "?")
                repeated = True
                self.at += 1
            items.append(item)
            repeats |= repeated
        return Sequence(tuple(items)), repeats

    def _atom(self) -> tuple[Node, bool]:
        match self._peek():
            case "(":
                return self._group()
            case "[":
                return self._class(), False
            case ".":
                self.at += 1
                return Chars((("\n", "\n"),), negated=True), False
            case "\\":
                return Chars(self._escaped()), False
            case "*" | "+" | "?":
                raise self._refuse("nothing to repeat, or a repetition of a repetition", 1)
            case "{" | "}":
                raise self._refuse("counted repetition", 1)
            case "^" | "$":
                raise self._refuse("an anchor inside the pattern", 1)
            case char:
                self.at += 1
                return Chars(((char, char),)), False

    def _group(self) -> tuple[Node, bool]:
        begin = self.at
        if self.text.startswith("(?", begin):
            raise self._refuse("look-around, a flag or a named group", 3)
        self.depth += 1
        if self.depth > MAX_NESTING:
            raise self._refuse(f"groups nested deeper than {MAX_NESTING}", 1)
        self.at += 1
        node, repeats = self._alternation()
        if self._peek() != ")":
            raise UnsafeRegex("this `(` is never closed", begin, begin + 1)
        self.at += 1
        self.depth -= 1
        return node, repeats

    def _class(self) -> Chars:
        begin = self.at
        self.at += 1
        negated = self._peek() == "^"
        self.at += negated
        ranges: list[tuple[str, str]] = []
        while self._peek() != "]":
            if not self._peek():
                raise UnsafeRegex("this `[` is never closed", begin, begin + 1)
            ranges.extend(self._range())
        if not ranges:
            raise UnsafeRegex("an empty class", begin, self.at + 1)
        self.at += 1
        return Chars(tuple(ranges), negated)

    def _range(self) -> tuple[tuple[str, str], ...]:
        begin = self.at
        if self._peek() == "[":
            raise self._refuse("a `[` inside a class; write `\\[`", 1)
        low = self._member()
        if self._peek() != "-" or self.text[self.at + 1 : self.at + 2] == "]":
            return low
        self.at += 1
        high = self._member()
        if len(low) != 1 or len(high) != 1 or low[0][0] != low[0][1] or high[0][0] != high[0][1]:
            raise UnsafeRegex("a class at the end of a range", begin, self.at)
        if low[0][0] > high[0][0]:
            raise UnsafeRegex("an empty range", begin, self.at)
        return ((low[0][0], high[0][0]),)

    def _member(self) -> tuple[tuple[str, str], ...]:
        char = self._peek()
        if char == "\\":
            return self._escaped()
        if not char:
            raise UnsafeRegex("a class is never closed", self.at - 1, self.at)
        self.at += 1
        return ((char, char),)

    def _escaped(self) -> tuple[tuple[str, str], ...]:
        if self.at + 1 >= self.end:
            raise self._refuse("a backslash at the end", 1)
        char = self.text[self.at + 1]
        if char in CLASSES:
            self.at += 2
            return CLASSES[char]
        if char.isalnum():
            raise self._refuse("a back-reference or an escape that is not `\\d`, `\\w`, `\\s`", 2)
        self.at += 2
        return ((char, char),)

    def _peek(self) -> str:
        return self.text[self.at] if self.at < self.end else ""

    def _refuse(self, reason: str, length: int) -> UnsafeRegex:
        return UnsafeRegex(reason, self.at, min(self.at + length, len(self.text)))


def _is_escaped(text: str, at: int) -> bool:
    before = text[:at]
    return (len(before) - len(before.rstrip("\\"))) % 2 == 1
