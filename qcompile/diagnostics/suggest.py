"""Guesses at the name that was meant."""

from collections.abc import Iterable
from difflib import get_close_matches

CUTOFF = 0.6
"""Similarity below which a guess annoys more than it helps (difflib's own default)."""


def nearest(name: str, known: Iterable[str], count: int = 1) -> list[str]:
    """Give the ``count`` known names most like ``name``, best first.

    Names that differ in case only come before all others.
    """
    names = sorted(set(known))
    same = [other for other in names if other.casefold() == name.casefold()]
    alike = get_close_matches(name, names, count, CUTOFF) if len(same) < count else []
    return list(dict.fromkeys([*same, *alike]))[:count]


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    match nearest(name, known):
        case [guess]:
            return f"did you mean `{guess}`?"
        case _:
            return None
