"""Run code of the user's: what it prints goes to stderr, what it raises becomes a value."""

import os
import sys
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from qcompile.data.project import Project, on_path
from qcompile.data.purpose import Purpose
from qcompile.diagnostics.diagnostic import Diagnostic

Result = TypeVar("Result")

STDOUT = 1
STDERR = 2
FRAMES_SHOWN = 6
TEXT_SHOWN = 300
OUR_CODE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Raised:
    """An exception of the user's code, in words; ``places`` are frames, outermost first."""

    text: str
    places: tuple[str, ...]
    left: bool
    """It called ``sys.exit``."""


def run_user_code(action: Callable[[], Result], project: Project) -> Result | Raised:
    """Only Ctrl-C gets through; ``SystemExit`` and anything else is ``Raised``."""
    try:
        with on_path(project), _stdout_on_stderr():
            return action()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return Raised(_text(error), _places(error, project), isinstance(error, SystemExit))


def raised(what: str, error: Raised, purpose: Purpose) -> Diagnostic:
    """QR521, QR710 or QR713: the user's code raised, or left the process."""
    deed = "called `sys.exit`" if error.left else "raised an exception"
    return Diagnostic(
        purpose.failure,
        f"`{what}` {deed}",
        subject=error.places[-1] if error.places else what,
        notes=(error.text, *error.places),
    )


@contextmanager
def _stdout_on_stderr() -> Generator[None]:
    """Standard output is for our result; this covers ``print`` and writes to descriptor 1."""
    stdout = sys.stdout
    stdout.flush()
    try:
        saved = os.dup(STDOUT)
        os.dup2(STDERR, STDOUT)
    except OSError:  # a closed descriptor: nothing can reach it
        saved = None
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        stdout.flush()
        if saved is not None:
            os.dup2(saved, STDOUT)
            os.close(saved)


def _text(error: BaseException) -> str:
    """The exception in one printable line, at most ``TEXT_SHOWN`` characters long."""
    words = " ".join(traceback.format_exception_only(error)[-1].split())
    printable = "".join(char for char in words if char.isprintable())
    return printable if len(printable) <= TEXT_SHOWN else f"{printable[:TEXT_SHOWN]}..."


def _places(error: BaseException, project: Project) -> tuple[str, ...]:
    """The user's frames; if there are none, the innermost one that is not ours."""
    foreign: list[str] = []
    own: list[str] = []
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = Path(frame.f_code.co_filename)
        if not file.is_absolute() or file.resolve().is_relative_to(OUR_CODE):
            continue
        place = f"{project.shown(file)}:{line} in `{frame.f_code.co_name}`"
        (own if project.owns(file) else foreign).append(place)
    if isinstance(error, SyntaxError) and error.filename:
        own.append(f"{project.shown(Path(error.filename))}:{error.lineno or 1}")
    return tuple(own[-FRAMES_SHOWN:] or foreign[-1:])
