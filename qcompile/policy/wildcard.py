"""Two-pointer matching of a sequence against a pattern with stars, in ``O(len(a) * len(b))``."""

from collections.abc import Callable, Sequence
from typing import TypeVar

P = TypeVar("P")
T = TypeVar("T")


def matches(
    pattern: Sequence[P],
    text: Sequence[T],
    is_star: Callable[[P], bool],
    fits: Callable[[P, T], bool],
) -> bool:
    """Whether the whole of ``text`` fits; a star stands for any number of items, also none.

    Only the last star seen is ever widened: what an earlier one could take, the later one can
    take as well, so that no step back further than one star is needed.
    """
    at = here = 0
    star: int | None = None
    resume = 0
    while here < len(text):
        if at < len(pattern) and is_star(pattern[at]):
            star, resume = at, here
            at += 1
        elif at < len(pattern) and fits(pattern[at], text[here]):
            at, here = at + 1, here + 1
        elif star is not None:
            resume += 1
            at, here = star + 1, resume
        else:
            return False
    return all(is_star(item) for item in pattern[at:])
