"""Diagnostics about text that parses."""

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.diagnostics.source import Span
from qcompile.syntax.limits import MAX_FILE_BYTES

TOO_LARGE_HELP = "move part of it to a file of its own and import that"


def file_too_large(name: str, limit: int = MAX_FILE_BYTES) -> Diagnostic:
    """QR120: refused before it is read."""
    mebibytes = limit >> 20
    message = f"a recipe is at most {mebibytes} MiB"
    return Diagnostic(Code.TOO_LARGE, message, subject=name, help=TOO_LARGE_HELP)


def literal_too_long(what: str, limit: int, span: Span) -> Diagnostic:
    """QR120: a string, regular expression or number beyond its limit."""
    return Diagnostic(Code.TOO_LARGE, f"{what} is at most {limit} characters long", Label(span))


def number_too_large(span: Span) -> Diagnostic:
    """QR120: a number that no float64 holds."""
    return Diagnostic(Code.TOO_LARGE, "this number does not fit a 64-bit float", Label(span))


def unknown_escape(span: Span) -> Diagnostic:
    r"""QR101: ``\x`` in a string; kept or dropped, it would mean what its writer did not."""
    return Diagnostic(
        Code.UNEXPECTED_TOKEN,
        f"unknown escape `{span.text}` in a string",
        Label(span, r"expected \", \\, \n or \t"),
        help=rf"write `\{span.text}` for a backslash",
    )
