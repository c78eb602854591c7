"""Numbers, quantities, strings and regular expressions from their text."""

import math
import re

from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.source import Span
from qcompile.syntax.limits import MAX_NUMBER, MAX_REGEX, MAX_STRING
from qcompile.syntax.nodes import Number, Quantity, Regex, String
from qcompile.syntax.problems import literal_too_long, number_too_large, unknown_escape

_QUANTITY = re.compile(r"(?P<number>[0-9_.]+)(?P<unit>%|[A-Za-z]+)")
_ESCAPE = re.compile(r"\\(.)")
_ESCAPES = {'"': '"', "\\": "\\", "n": "\n", "t": "\t"}


def number(span: Span, problems: list[Diagnostic]) -> Number:
    return Number(_value(span.text, span, problems), span)


def quantity(span: Span, problems: list[Diagnostic]) -> Quantity:
    match = _QUANTITY.fullmatch(span.text)
    assert match is not None
    return Quantity(_value(match.group("number"), span, problems), match.group("unit"), span)


def string(span: Span, problems: list[Diagnostic]) -> String:
    written = span.text[1:-1]
    if len(written) > MAX_STRING:
        problems.append(literal_too_long("a string", MAX_STRING, span))
        return String("", span)
    for match in _ESCAPE.finditer(written):
        if match.group(1) not in _ESCAPES:
            start = span.start + 1 + match.start()
            problems.append(unknown_escape(span.source.span(start, start + 2)))
    return String(_ESCAPE.sub(_unescaped, written), span)


def regex(span: Span, problems: list[Diagnostic]) -> Regex:
    pattern = span.text[len('re"') : -1]
    if len(pattern) > MAX_REGEX:
        problems.append(literal_too_long("a regular expression", MAX_REGEX, span))
    return Regex(pattern, span)


def _unescaped(match: re.Match[str]) -> str:
    return _ESCAPES.get(match.group(1), match.group())


def _value(written: str, span: Span, problems: list[Diagnostic]) -> int | float:
    """Give an int exactly for what is written without ``.`` and exponent."""
    if len(written) > MAX_NUMBER:
        problems.append(literal_too_long("a number", MAX_NUMBER, span))
        return 0
    digits = written.replace("_", "")
    if digits.isdigit():
        return int(digits)
    value = float(digits)
    if not math.isfinite(value):
        problems.append(number_too_large(span))
    return value
