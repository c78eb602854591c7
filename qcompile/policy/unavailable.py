"""What the language has a place for and this version does not do: said, never ignored."""

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.diagnostics.source import Span


def not_available(what: str, span: Span, way_out: str) -> Diagnostic:
    """QR290."""
    return Diagnostic(
        Code.NOT_AVAILABLE,
        f"{what} is not available in this version of qcompile",
        Label(span, "not available"),
        help=way_out,
    )
