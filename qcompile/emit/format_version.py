"""Whether a file was written by a later program than this one."""

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic


def check_version(file: str, document: object, known: str) -> list[Diagnostic]:
    """Refuse a newer major version; a document without any is left to its own reader."""
    if not isinstance(document, dict):
        return []
    match document:
        case {"format_version": str(version)} if _major(version) > _major(known):
            return [newer_format(file, version, known)]
        case _:
            return []


def newer_format(file: str, version: str, known: str) -> Diagnostic:
    """QR908."""
    return Diagnostic(
        Code.FORMAT_VERSION,
        f"`{file}` has format {version}; this program reads up to {known}",
        subject=file,
        help="install a newer qcompile",
    )


def _major(version: str) -> int:
    text = version.partition(".")[0]
    return int(text) if text.isdecimal() and len(text) < 10 else 0
