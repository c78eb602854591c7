"""A transform of ``prepare`` that finds no place in the model."""

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.policy.recipe import Transform


def nothing_to_prepare(item: Transform, place: str) -> Diagnostic:
    """QR532. ``place`` continues "it is for"."""
    return Diagnostic(
        Code.NOTHING_TO_PREPARE,
        f"`prepare {item.name}` has nothing to do",
        Label(item.span, "no such layers" if item.selector is None else "none of them here"),
        notes=(f"it is for {place}",),
        help="leave it out, or select other layers: `qcompile plan --full` lists them all",
    )
