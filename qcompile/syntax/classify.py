"""From the place where the parser stopped to the diagnostic that says what to write instead.

One builder for each code; the first one that recognises the place speaks.
"""

import re
from types import MappingProxyType

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.diagnostics.suggest import nearest
from qcompile.syntax.habits import (
    assignment_in_expression,
    colon_assignment,
    foreign_comment,
    foreign_operator,
    single_quotes,
    spaced_unit,
    unquoted_pattern,
)
from qcompile.syntax.limits import MAX_NESTING, MAX_OPERATORS, MAX_RULES, MAX_TOKENS
from qcompile.syntax.newlines import (
    LIMIT_TOKENS,
    TOO_DEEP,
    TOO_LONG,
    TOO_MANY_RULES,
    TOO_MANY_TOKENS,
)
from qcompile.syntax.problems import TOO_LARGE_HELP
from qcompile.syntax.stop import UNKNOWN, Stop
from qcompile.syntax.unclosed import early_end, unclosed_bracket, unterminated_string
from qcompile.syntax.words import expected, keywords, words_of

_MALFORMED = re.compile(r"[0-9][\w.%]*")
_SHOWN = 40
_LIMITS = MappingProxyType(
    {
        TOO_DEEP: (f"nesting is deeper than {MAX_NESTING}", "split the expression with `select`"),
        TOO_LONG: (
            f"an expression has more than {MAX_OPERATORS} operators",
            "split the expression with `select`",
        ),
        TOO_MANY_RULES: (
            f"the recipe has more than {MAX_RULES:,} rules",
            "say more with one rule: use patterns",
        ),
        TOO_MANY_TOKENS: (
            f"the recipe has more than {MAX_TOKENS:,} words and marks",
            TOO_LARGE_HELP,
        ),
    }
)


def classify(stop: Stop) -> Diagnostic:
    for build in _BUILDERS:
        diagnostic = build(stop)
        if diagnostic is not None:
            return diagnostic
    return unexpected_token(stop)


def too_large(stop: Stop) -> Diagnostic | None:
    """QR120: nesting, operators or rules beyond the limits of the language."""
    if stop.kind not in LIMIT_TOKENS:
        return None
    message, way_out = _LIMITS[stop.kind]
    return Diagnostic(Code.TOO_LARGE, message, Label(stop.span), help=way_out)


def missing_version(stop: Stop) -> Diagnostic | None:
    """QR100: the first word is not ``qrecipe``."""
    if not stop.at_start_of_file:
        return None
    return Diagnostic(
        Code.MISSING_VERSION,
        "a recipe must start with its language version",
        Label(stop.span, "expected `qrecipe 1` here"),
        help="add the line `qrecipe 1` at the top",
    )


def unknown_word(stop: Stop) -> Diagnostic | None:
    """QR112: a word close to one that could stand here."""
    if stop.kind != "NAME":
        return None
    match nearest(stop.text, words_of(stop.accepts)):
        case [guess, *_]:
            return Diagnostic(
                Code.UNKNOWN_WORD,
                f"unknown word `{_short(stop.text)}` in {_context(stop)}",
                Label(stop.span),
                help=f"did you mean `{guess}`?",
            )
        case _:
            return None


def reserved_word(stop: Stop) -> Diagnostic | None:
    """QR113: a word of the language where a name must stand."""
    needs_a_name = "NAME" in stop.accepts and "STRING" not in stop.accepts
    if stop.kind != "RESERVED" and not (needs_a_name and stop.kind in keywords()):
        return None
    return Diagnostic(
        Code.RESERVED_WORD,
        f"`{stop.text}` is a reserved word and cannot be a name",
        Label(stop.span),
        help=f"choose another name, for example `my_{stop.text}`",
    )


def unexpected_token(stop: Stop) -> Diagnostic:
    """QR101: whatever has no better name."""
    if stop.kind == UNKNOWN:
        return _unexpected_character(stop)
    what = "end of line" if stop.kind == "_NL" else f"`{_short(stop.text)}`"
    return Diagnostic(
        Code.UNEXPECTED_TOKEN,
        f"unexpected {what} in {_context(stop)}",
        Label(stop.span, expected(stop.accepts)),
    )


_BUILDERS = (
    too_large,
    foreign_comment,
    missing_version,
    single_quotes,
    unterminated_string,
    foreign_operator,
    unclosed_bracket,
    early_end,
    spaced_unit,
    unquoted_pattern,
    assignment_in_expression,
    colon_assignment,
    unknown_word,
    reserved_word,
)


def _unexpected_character(stop: Stop) -> Diagnostic:
    match = _MALFORMED.match(stop.source.text, stop.start)
    if match is not None:
        span = stop.source.span(match.start(), match.end())
        message = f"unexpected `{_short(match.group())}` in {_context(stop)}"
        return Diagnostic(Code.UNEXPECTED_TOKEN, message, Label(span, "not a number"))
    message = f"unexpected character {stop.text!a} in {_context(stop)}"
    return Diagnostic(Code.UNEXPECTED_TOKEN, message, Label(stop.span))


def _context(stop: Stop) -> str:
    return "the file" if stop.context is None else f"`{stop.context}`"


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
