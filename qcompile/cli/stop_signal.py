"""First Ctrl-C or SIGTERM: stop at the next safe point. Second: at once."""

import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

from qcompile.cli.exit_codes import ExitCode


@contextmanager
def stop_requests() -> Generator[Callable[[], bool]]:
    """Yields a function that says whether a stop was asked for; handlers only set a flag."""
    asked = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise SystemExit(ExitCode.INTERRUPTED)
        asked = True

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
