"""Habits from other languages: what was meant is certain, so each of these carries a safe fix."""

import re

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Fix, Label
from qcompile.diagnostics.source import Span
from qcompile.syntax.stop import UNKNOWN, Stop
from qcompile.syntax.words import UNITS

_OPERATORS = {
    "&&": "and",
    "||": "or",
    "<>": "!=",
    "&": "and",
    "|": "or",
    "!": "not",
    "~": "not",
    "≤": "<=",
    "≥": ">=",
    "≠": "!=",
}
_SINGLE_QUOTED = re.compile(r"'([^'\n]*)'?")
_NUMBER_BEFORE = re.compile(r"(?<![\w.])([0-9][0-9_.]*)[ \t]+(?:%[ \t]*)?\Z")
_GLOB = frozenset("*?.")


def single_quotes(stop: Stop) -> Diagnostic | None:
    """QR102: a string in single quotes."""
    match = _SINGLE_QUOTED.match(stop.source.text, stop.start)
    if stop.kind != UNKNOWN or match is None:
        return None
    span = stop.source.span(match.start(), match.end())
    content = match.group(1).rstrip("\r")
    quoted = '"' + content.replace("\\", "\\\\").replace('"', '\\"') + '"'
    closed = match.group().endswith("'") and len(match.group()) > 1
    return Diagnostic(
        Code.SINGLE_QUOTES,
        "strings use double quotes",
        Label(span, "single-quoted string"),
        help=f"write {quoted}",
        fixes=(Fix(span, quoted),) if closed else (),
    )


def foreign_operator(stop: Stop) -> Diagnostic | None:
    """QR104: an operator of another language."""
    text = stop.source.text
    # `<` alone is an operator of ours, so that `<>` is found at its second half
    start = stop.start - 1 if text[max(0, stop.start - 1) : stop.start + 1] == "<>" else stop.start
    mark = next((mark for mark in _OPERATORS if text.startswith(mark, start)), None)
    if mark is None or (stop.kind != UNKNOWN and mark != "<>"):
        return None
    span = stop.source.span(start, start + len(mark))
    return Diagnostic(
        Code.FOREIGN_OPERATOR,
        f"`{mark}` is not an operator",
        Label(span),
        help=f"write `{_OPERATORS[mark]}`",
        fixes=(Fix(span, _spaced(span, _OPERATORS[mark])),),
    )


def foreign_comment(stop: Stop) -> Diagnostic | None:
    """QR108: ``//`` or ``/*``, whose first half may have been read as a division."""
    span = _foreign_comment_mark(stop)
    if span is None:
        return None
    return Diagnostic(
        Code.FOREIGN_COMMENT,
        "comments start with `#`",
        Label(span),
        help=f"replace `{span.text}` with `#`",
        fixes=(Fix(span, "#"),) if span.text == "//" else (),
    )


def spaced_unit(stop: Stop) -> Diagnostic | None:
    """QR107: ``60 MB``; in ``1 %`` the unit was read as an operator, and what follows fails."""
    source = stop.source
    line_start = source.line_start(source.location(stop.start).line)
    match = _NUMBER_BEFORE.search(source.text[line_start : stop.start])
    if match is None:
        return None
    percent = "%" in match.group()
    if not percent and (stop.kind != "NAME" or stop.text.lower() not in UNITS):
        return None
    before = match.group().rstrip() if percent else match.group()
    start = line_start + match.start()
    span = source.span(start, start + len(before) + (0 if percent else len(stop.text)))
    written = match.group(1) + ("%" if percent else stop.text)
    return Diagnostic(
        Code.SPACED_UNIT,
        "a unit is written without a space",
        Label(span),
        help=f"write `{written}`",
        fixes=(Fix(span, written),),
    )


def unquoted_pattern(stop: Stop) -> Diagnostic | None:
    """QR109: a glob outside a string, whose ``*`` was read as an operator."""
    span = _glob_around(stop)
    if span is None:
        return None
    return Diagnostic(
        Code.UNQUOTED_PATTERN,
        "a module pattern must be a quoted string",
        Label(span, "looks like a glob"),
        help=f'write "{span.text}"',
        fixes=(Fix(span, f'"{span.text}"'),),
    )


def assignment_in_expression(stop: Stop) -> Diagnostic | None:
    """QR110: ``=`` where only ``==`` makes sense."""
    if stop.kind != "EQUAL" or "CMP" not in stop.accepts:
        return None
    return Diagnostic(
        Code.ASSIGNMENT_IN_EXPRESSION,
        "`=` assigns; it does not compare",
        Label(stop.span),
        help="write `==`",
        fixes=(Fix(stop.span, "=="),),
    )


def colon_assignment(stop: Stop) -> Diagnostic | None:
    """QR111: ``name: value`` in a block."""
    if stop.kind != "COLON" or "EQUAL" not in stop.accepts or stop.top is None:
        return None
    return Diagnostic(
        Code.COLON_ASSIGNMENT,
        "settings use `=`, not `:`",
        Label(stop.span),
        help=f"write `{stop.top} = ...`",
        fixes=(Fix(stop.span, _spaced(stop.span, "=")),),
    )


def _foreign_comment_mark(stop: Stop) -> Span | None:
    text = stop.source.text
    for start in (max(0, stop.start - 1), stop.start):
        mark = text[start : start + 2]
        begins_word = not text[max(0, start - 1) : start].strip()
        if mark == "//" or (mark == "/*" and begins_word):
            return stop.source.span(start, start + 2)
    return None


def _glob_around(stop: Stop) -> Span | None:
    text = stop.source.text
    anchor = stop.start
    if text[anchor : anchor + 1] not in _GLOB:
        if stop.top is None or stop.top.type != "MULOP" or stop.top.start_pos is None:
            return None
        anchor = stop.top.start_pos
    start = end = anchor
    while start > 0 and _in_pattern(text[start - 1]):
        start -= 1
    while end < len(text) and _in_pattern(text[end]):
        end += 1
    pattern = text[start:end]
    if not ("*" in pattern or "?" in pattern) or not re.search(r"[A-Za-z_.]|\A\*\*\Z", pattern):
        return None
    return stop.source.span(start, end)


def _in_pattern(char: str) -> bool:
    return char in _GLOB or char == "_" or char.isalnum()


def _spaced(span: Span, operator: str) -> str:
    """``operator`` with the blanks that it lacks where ``span`` is."""
    text = span.source.text
    before = "" if not text[: span.start] or text[span.start - 1].isspace() else " "
    after = "" if text[span.end : span.end + 1].isspace() else " "
    opening = text[max(0, span.start - 1) : span.start] in ("(", "[")
    return f"{'' if opening else before}{operator}{after}"
