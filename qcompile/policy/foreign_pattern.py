"""Patterns in the habits of other tools, where a plain string may be a regular expression."""

import re

from qcompile.policy.regex import Regex, UnsafeRegex, parse_regex

_PREFIX = "re:"
_MARKS = re.compile(r"\.[*+]|\\[.dws]|[$^|()]")
"""What no glob needs."""


def as_regex(text: str) -> Regex | None:
    """``text`` as the regular expression that it seems to be, without the prefix of others."""
    pattern = text.removeprefix(_PREFIX)
    if pattern == text and not _MARKS.search(text):
        return None
    try:
        return parse_regex(pattern)
    except UnsafeRegex:
        return None
