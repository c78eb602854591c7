"""What was opened and not closed: strings, brackets, statements."""

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.diagnostics.source import Span
from qcompile.syntax.marks import CLOSER, open_brackets
from qcompile.syntax.stop import END, UNKNOWN, Stop
from qcompile.syntax.words import STATEMENTS, expected, statement_words


def unterminated_string(stop: Stop) -> Diagnostic | None:
    """QR103: a quote without its partner on the line."""
    if stop.kind != UNKNOWN or stop.text != '"':
        return None
    line = stop.source.location(stop.start).line
    end = stop.source.line_start(line) + len(stop.source.line(line))
    return Diagnostic(
        Code.UNTERMINATED_STRING,
        "unterminated string",
        Label(stop.source.span(stop.start, end), 'no closing " on this line'),
        help="close the quote on this line",
    )


def unclosed_bracket(stop: Stop) -> Diagnostic | None:
    """QR105: the file ends, or something begins, that cannot stand inside the open bracket.

    The secondary label, if there is one, is where the bracket must have been closed.
    """
    around = open_brackets(stop.source.text, stop.start)
    if not around:
        return None
    mark, offset = around[-1]
    if stop.kind == END:
        return _unclosed(stop, mark, offset, None)
    intruder = _block_intruder(stop) if mark == "{" else _bracket_intruder(stop)
    return None if intruder is None else _unclosed(stop, mark, offset, intruder)


def early_end(stop: Stop) -> Diagnostic | None:
    """QR106: the file ends inside a statement."""
    if stop.kind != END:
        return None
    end = len(stop.source.text.rstrip())
    return Diagnostic(
        Code.EARLY_END,
        "the file ends too early",
        Label(stop.source.span(end, end), expected(stop.accepts)),
    )


def _unclosed(stop: Stop, mark: str, offset: int, intruder: Span | None) -> Diagnostic:
    closer = CLOSER[mark]
    opened = Label(stop.source.span(offset, offset + 1), "opened here")
    message = f"this `{mark}` is never closed"
    if intruder is None:
        way_out = f"add `{closer}` before the end of the file"
        return Diagnostic(Code.UNCLOSED_BRACKET, message, opened, help=way_out)
    if mark == "{":
        label = "a new top-level statement starts here"
        way_out = f"add `{closer}` on the line before `{intruder.text}`"
    else:
        label = f"comes before any `{closer}`"
        way_out = f"add `{closer}` before `{intruder.text}`"
    secondary = (Label(intruder, label),)
    return Diagnostic(Code.UNCLOSED_BRACKET, message, opened, secondary, help=way_out)


def _block_intruder(stop: Stop) -> Span | None:
    """Find the word of a top-level statement inside a block."""
    if stop.kind in STATEMENTS and "RBRACE" in stop.accepts:
        return stop.span
    word = stop.starter()
    if word is None or word.text not in statement_words():
        return None
    # it was read as the name of a setting: believe that only if a brace is missing for good
    text = stop.source.text
    return word if open_brackets(text, len(text)) else None


def _bracket_intruder(stop: Stop) -> Span | None:
    """Find what ``( )`` and ``[ ]`` cannot hold: the end of a block, or a new statement."""
    return stop.span if stop.kind == "RBRACE" else stop.starter()
