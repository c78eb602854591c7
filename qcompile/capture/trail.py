"""Where in the model a run is, and what was compiled in on the way."""

import sys
from collections.abc import Generator
from contextlib import contextmanager

from qcompile.capture.node_meta import ModuleCall
from qcompile.capture.specialisation import Specialisation
from qcompile.capture.user_frame import line_now


class Trail:
    def __init__(self) -> None:
        self.stack: list[ModuleCall] = []
        """Entered modules, outermost first, without the root."""
        self.failed_in: str | None = None
        """The innermost module that was running when the model's own code raised."""
        self.specialisations: list[Specialisation] = []

    @contextmanager
    def inside(self, call: ModuleCall) -> Generator[None]:
        self.stack.append(call)
        try:
            yield
        finally:
            self.stack.pop()

    @contextmanager
    def blaming(self, path: str) -> Generator[None]:
        """Remember the module if it is the one that raises."""
        try:
            yield
        except Exception:
            self.failed_in = self.failed_in or path
            raise

    def specialise(self, what: str, *, above_one: bool = False) -> None:
        """Say what the line that is running compiles in; once, however many modules share it."""
        path = self.stack[-1].path if self.stack else ""
        line = line_now(sys._getframe())  # pyright: ignore[reportPrivateUsage]
        if not any((item.what, item.where) == (what, line) for item in self.specialisations):
            self.specialisations.append(Specialisation(path, what, line, above_one=above_one))
