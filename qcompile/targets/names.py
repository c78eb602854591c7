"""The targets that ship with the program."""

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.suggest import did_you_mean

BUILTIN: tuple[str, ...] = (
    "simulate",
    "x86-int8",
    "cpu-int4",
    "cpu-int8-weight-only",
    "cuda-int8",
    "cuda-fp8",
    "cuda-int4",
)
"""The first is the reference; each is a file of ``builtin``."""
REFERENCE = BUILTIN[0]
SUFFIX = ".json"


def unknown_target(name: str) -> Diagnostic:
    """QR201."""
    return Diagnostic(
        Code.UNKNOWN_NAME,
        f"unknown target `{name}`",
        notes=(f"targets: {', '.join(BUILTIN)}, or a file `*{SUFFIX}`",),
        help=did_you_mean(name, BUILTIN) or f"write `{REFERENCE}`",
    )
