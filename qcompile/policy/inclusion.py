"""Whether one selector selects no more than another in every model there could be.

Globs are compared as languages, exactly; all else by structure. ``False`` means "not proved".
"""

import sys
from collections.abc import Iterator
from typing import TypeAlias

from qcompile.policy.glob import AnyRun, AnySegments, Glob, OneOf
from qcompile.policy.selector import AllOf, AnyOf, Everything, Named, Pattern, Selector

MAX_STATES = 4_096
"""Pairs of states that are looked at before the question is given up."""

SEPARATOR = "."


class AnyWord:
    """``**``: any number of segments, each with the dot that ends it."""


Symbol: TypeAlias = str | AnyRun | OneOf | AnyWord
Program: TypeAlias = tuple[Symbol, ...]
"""A glob as a machine over ``path + "."``: the state is the position of the symbol to read next,
or, inside a segment that ``**`` reads, the negative of that plus one."""


def includes(wider: Selector, narrower: Selector) -> bool:
    """Every site that ``narrower`` selects is selected by ``wider``."""
    wider, narrower = _plain(wider), _plain(narrower)
    match wider, narrower:
        case Everything(), _:
            return True
        case _, AnyOf(items):
            return all(includes(wider, item) for item in items)
        case AllOf(items), _:
            return all(includes(item, narrower) for item in items)
        case AnyOf(items), _ if any(includes(item, narrower) for item in items):
            return True
        case _, AllOf(items):
            return any(includes(wider, item) for item in items)
        case Pattern(Glob() as wide), Pattern(Glob() as narrow):
            return glob_includes(wide, narrow)
        case _:
            return _same(wider, narrower)


def _plain(selector: Selector) -> Selector:
    while isinstance(selector, Named):
        selector = selector.item
    return selector


def _same(first: Selector, second: Selector) -> bool:
    """Equal but for their places in the text."""
    if type(first) is not type(second):
        return False
    names: tuple[str, ...] = type(first).__match_args__
    return all(_equal(getattr(first, n), getattr(second, n)) for n in names if n != "span")


def _equal(first: object, second: object) -> bool:
    if isinstance(first, tuple) and isinstance(second, tuple):
        return len(first) == len(second) and all(map(_equal, first, second))
    if hasattr(first, "span") and hasattr(second, "span"):
        return _same(first, second)  # pyright: ignore[reportArgumentType]
    return first == second


# ---- globs ------------------------------------------------------------------------------------


def glob_includes(wide: Glob, narrow: Glob) -> bool:
    """Every path that ``narrow`` matches is matched by ``wide``; exact up to ``MAX_STATES``.

    Walks both machines together: one state of ``narrow`` against the set of states that ``wide``
    may be in, over one character of each class that they tell apart.
    """
    if not all(wide.matches(word) for word in _shortest_words(narrow)):
        return False
    left, right = _programs(narrow), _programs(wide)
    alphabet = _alphabet(left + right)
    start = _closure(right, {(number, 0) for number in range(len(right))})
    waiting = [
        ((number, state), start) for number in range(len(left)) for state in _at(left[number], 0)
    ]
    seen = set(waiting)
    while waiting:
        (number, state), states = waiting.pop()
        if state == len(left[number]) and not any(at == len(right[n]) for n, at in states):
            return False
        if len(seen) > MAX_STATES:
            return False
        for char in alphabet:
            after = _closure(right, {(n, s) for n, at in states for s in _step(right[n], at, char)})
            for following in _step(left[number], state, char):
                for reached in _at(left[number], following):
                    pair = ((number, reached), after)
                    if pair not in seen:
                        seen.add(pair)
                        waiting.append(pair)
    return True


def _shortest_words(glob: Glob) -> Iterator[str]:
    """For each alternative a path that it matches: most pairs of globs differ there already."""
    for segments in glob.alternatives:
        words = [s for s in segments if not isinstance(s, AnySegments)]
        if all(isinstance(t, str | AnyRun) for word in words for t in word):
            yield SEPARATOR.join("".join(t for t in word if isinstance(t, str)) for word in words)


def _programs(glob: Glob) -> list[Program]:
    found: list[Program] = []
    for segments in glob.alternatives:
        symbols: list[Symbol] = []
        for segment in segments:
            if isinstance(segment, AnySegments):
                symbols.append(AnyWord())
            else:
                symbols += [*segment, SEPARATOR]
        found.append(tuple(symbols))
    return found


def _alphabet(programs: list[Program]) -> list[str]:
    """The first character of each class that the globs can tell apart."""
    edges = {0, ord(SEPARATOR), ord(SEPARATOR) + 1}
    for symbol in (symbol for program in programs for symbol in program):
        match symbol:
            case str():
                edges |= {ord(symbol), ord(symbol) + 1}
            case OneOf(ranges):
                for low, high in ranges:
                    edges |= {ord(low), ord(high) + 1}
            case _:
                pass
    return [chr(edge) for edge in sorted(edges) if edge <= sys.maxunicode]


def _step(program: Program, state: int, char: str) -> Iterator[int]:
    """States after reading ``char``."""
    if state < 0:  # inside a segment of `**`
        yield -state - 1 if char == SEPARATOR else state
        return
    if state == len(program):
        return
    match program[state]:
        case str() as literal:
            if literal == char:
                yield state + 1
        case AnyRun():
            if char != SEPARATOR:
                yield state
        case OneOf() as one:
            if char != SEPARATOR and one.holds(char):
                yield state + 1
        case AnyWord():
            yield state if char == SEPARATOR else -state - 1


def _at(program: Program, state: int) -> Iterator[int]:
    """``state`` and all that follow it without reading."""
    yield state
    while 0 <= state < len(program) and isinstance(program[state], AnyRun | AnyWord):
        state += 1
        yield state


def _closure(programs: list[Program], states: set[tuple[int, int]]) -> frozenset[tuple[int, int]]:
    return frozenset((n, reached) for n, at in states for reached in _at(programs[n], at))
