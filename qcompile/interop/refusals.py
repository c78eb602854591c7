"""Why an artifact cannot be exported in a format."""

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic


def no_operation(what: str, node: str) -> Diagnostic:
    """QR551. ``what`` continues "the ONNX export cannot express"."""
    return Diagnostic(
        Code.EXPORT_OPERATION,
        f"the ONNX export cannot express {what}",
        subject=node,
        help="export to `pt2`, which takes every graph that runs",
    )


def too_large(size: int, limit: int) -> Diagnostic:
    """QR550."""
    return Diagnostic(
        Code.EXPORT_FORMAT,
        f"`onnx` cannot hold a model of {size} bytes in one file; it ends at {limit}",
        help="use fewer bits, or export to `pt2`",
    )
