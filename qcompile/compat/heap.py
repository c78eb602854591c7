"""What the C library keeps of memory that was freed."""

import ctypes
from collections.abc import Callable
from functools import cache
from typing import cast


def give_back_freed() -> None:
    """Hand freed pages back to the system, also those between blocks that are in use.

    Values of many sizes come and go in a run, and leave holes. Nothing happens where the C library
    is not glibc.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Callable[[int], int] | None:
    try:
        return cast("Callable[[int], int]", ctypes.CDLL(None).malloc_trim)
    except (OSError, TypeError, AttributeError):
        return None
