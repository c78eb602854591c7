"""Characters that nobody sees, and that change what a text seems to say."""

import re
from unicodedata import category, name

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.columns import DIRECTION
from qcompile.diagnostics.diagnostic import Applicability, Diagnostic, Fix, Label
from qcompile.diagnostics.source import Source, Span

_SUSPECTS = re.compile(r"[^\n\r\t -~\xa1-\xac\xae-\u02ff]|\r(?!\n)")
_FILLERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Letters and marks by category, blank on the screen."""
_MOST = 20
"""Reports of one text."""


def hidden_characters(source: Source) -> list[Diagnostic]:
    """QR121 for the first hidden character of each line: who looks at one looks at the line."""
    found: list[Diagnostic] = []
    last_line = 0
    for match in _SUSPECTS.finditer(source.text):
        if not _is_hidden(match.group()):
            continue
        span = source.span(match.start(), match.end())
        line = span.location.line
        if line != last_line:
            found.append(hidden_character(span))
        last_line = line
        if len(found) == _MOST:
            break
    return found


def _is_hidden(char: str) -> bool:
    return category(char) in ("Cc", "Cf", "Zl", "Zp") or char in _FILLERS


def hidden_character(span: Span) -> Diagnostic:
    """QR121."""
    char = span.text
    effect = "reorders the text around it" if char in DIRECTION else "is invisible"
    return Diagnostic(
        Code.HIDDEN_CHARACTER,
        f"the character {_shown(char)} {effect}",
        Label(span),
        help="delete it; it makes the text read as what it is not",
        fixes=(Fix(span, "", Applicability.UNSAFE),),
    )


def _shown(char: str) -> str:
    known = name(char, "")
    return f"`U+{ord(char):04X}`" + (f" ({known.lower()})" if known else "")
