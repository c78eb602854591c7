"""Which lines of the compiler follow each other: what tells a new behaviour from a known one."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import qcompile

ROOT = qcompile.__path__[0]
Edge = tuple[int, int, int]


class Edges:
    """Collects the pairs of lines that one call runs through."""

    def __init__(self) -> None:
        self.seen: set[Edge] = set()
        self._ours: dict[object, bool] = {}

    def of(self, function: Callable[[str], None], text: str) -> set[Edge]:
        """Run ``function(text)``; the edges that no call before has run through."""
        found: set[Edge] = set()

        def enter(frame: FrameType, event: str, _: Any) -> Any:
            code = frame.f_code
            ours = self._ours.get(code)
            if ours is None:
                ours = self._ours[code] = code.co_filename.startswith(ROOT)
            if not ours:
                return None
            identity, last = id(code), 0

            def line(frame: FrameType, event: str, _: Any) -> Any:
                nonlocal last
                if event == "line":
                    found.add((identity, last, frame.f_lineno))
                    last = frame.f_lineno
                return line

            return line

        before = sys.gettrace()
        sys.settrace(enter)
        try:
            function(text)
        finally:
            sys.settrace(before)
        fresh = found - self.seen
        self.seen |= fresh
        return fresh
