"""The line of the model that is running, as ``file:line``."""

import linecache
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import FrameType, TracebackType

import torch

_TORCH = str(Path(torch.__file__).parent)
_HERE = str(Path(__file__).parents[1])


def line_now(frame: FrameType | None) -> str | None:
    """The innermost line around ``frame`` that belongs to neither torch nor qcompile."""
    return _first_outside(traceback.walk_stack(frame))


def line_of_error(trace: TracebackType | None) -> str | None:
    """The innermost line of a traceback that belongs to neither torch nor qcompile."""
    return _first_outside(reversed(list(traceback.walk_tb(trace))))


def code_at(where: str | None) -> str | None:
    """The text of a line that one of the above has found."""
    file, _, line = (where or "").rpartition(":")
    text = linecache.getline(file, int(line)).strip() if line else ""
    return f"`{text}`" if text else None


def _first_outside(frames: Iterable[tuple[FrameType, int]]) -> str | None:
    for frame, line in frames:
        name = frame.f_code.co_filename
        if not name.startswith((_TORCH, _HERE, "<")):
            return f"{name}:{line}"
    return None
