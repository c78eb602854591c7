"""What the auditor says. It has words of its own, as it has everything of its own."""

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic


class MalformedError(Exception):
    """A file is not what it says it is; the text continues its name."""


def no_artifact(directory: str, why: str) -> Diagnostic:
    """QR903."""
    return Diagnostic(
        Code.NOT_AN_ARTIFACT,
        f"`{directory}` is not an artifact: {why}",
        subject=directory,
        help="name a directory with a `manifest.json` that `qcompile run` wrote",
    )


def damaged(file: str, why: str) -> Diagnostic:
    """QR902."""
    return Diagnostic(
        Code.CORRUPT_ARTIFACT,
        f"`{file}` {why}",
        subject=file,
        help="get the artifact again, or run its plan again",
    )


def later_format(file: str, version: str, known: int) -> Diagnostic:
    """QR908."""
    return Diagnostic(
        Code.FORMAT_VERSION,
        f"`{file}` has format {version}; this program audits up to {known}",
        subject=file,
        help="install a newer qcompile",
    )


def broken_promise(what: str, subject: str) -> Diagnostic:
    """QR910."""
    return Diagnostic(
        Code.PLAN_NOT_MET,
        what,
        subject=subject,
        help="this artifact is not what its plan says; run the plan again",
    )


def sum_too_large(site: str, bits: int, held: int) -> Diagnostic:
    """QR517."""
    return Diagnostic(
        Code.ACCUMULATOR_OVERFLOW,
        f"integer sums of `{site}` can take {bits} bits, more than the {held} of the kernels",
        subject=site,
        help="use groups or fewer bits for this layer, and run the plan again",
    )
