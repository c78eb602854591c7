"""Keeps what a C library prints out of our standard output, which may be a document."""

import ctypes
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import cast

STANDARD_OUTPUT = 1


@contextmanager
def quiet_output() -> Generator[None]:
    """Of this process's standard output below Python; what Python prints meanwhile is lost too.

    What was printed before still arrives. Without standard output there is nothing to do.
    """
    _flush()
    try:
        kept = os.dup(STANDARD_OUTPUT)
    except OSError:
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, STANDARD_OUTPUT)
        yield
    finally:
        _flush()  # what C still holds in its buffer
        os.dup2(kept, STANDARD_OUTPUT)
        os.close(kept)
        os.close(nowhere)


def _flush() -> None:
    """All of C's buffers, where there is a C library to ask."""
    try:
        flush = cast("Callable[[None], int]", ctypes.CDLL(None).fflush)
    except (OSError, TypeError, AttributeError):
        return
    flush(None)
