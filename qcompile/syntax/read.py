"""A recipe from disk: bytes are checked before anything looks at their meaning."""

import os
import stat
from codecs import BOM_UTF8
from pathlib import Path

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.source import Source
from qcompile.syntax.json_form import as_recipe_text, is_json_name
from qcompile.syntax.limits import MAX_FILE_BYTES, MAX_JSON_BYTES
from qcompile.syntax.problems import file_too_large

_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def read(path: Path, name: str | None = None) -> Source | list[Diagnostic]:
    """Read the recipe in ``path``, shown under ``name`` (its path, if not given).

    A recipe in JSON comes as its canonical text.
    """
    source = read_as_written(path, name)
    if isinstance(source, list) or not is_json_name(source.name):
        return source
    return as_recipe_text(source)


def read_as_written(path: Path, name: str | None = None) -> Source | list[Diagnostic]:
    """Give the content of the file, whichever of the two forms it has."""
    shown = str(path) if name is None else name
    limit = MAX_JSON_BYTES if is_json_name(shown) else MAX_FILE_BYTES
    try:
        state = os.stat(path)
        # a pipe would block for ever, a device need not end
        if not stat.S_ISREG(state.st_mode):
            return [_not_a_file(shown, state.st_mode)]
        if state.st_size > limit:
            return [file_too_large(shown, limit)]
        with path.open("rb") as stream:
            data = stream.read(limit + 1)
    except FileNotFoundError:
        return [_missing(shown)]
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL character
        return [_unreadable(shown, error)]
    return decode(data, shown, limit)


def decode(data: bytes, name: str, limit: int = MAX_FILE_BYTES) -> Source | list[Diagnostic]:
    """Decode the bytes of a recipe; a byte order mark is dropped."""
    if len(data) > limit:
        return [file_too_large(name, limit)]
    if b"\x00" in data and not data.startswith(_UTF16_MARKS):
        return [_binary(name, data.index(b"\x00"))]
    try:
        return Source(name, data.removeprefix(BOM_UTF8).decode("utf-8"))
    except UnicodeDecodeError as error:
        return [_not_utf8(name, data, error.start)]


def _missing(name: str) -> Diagnostic:
    """QR114: nothing of this name exists."""
    return Diagnostic(
        Code.NOT_TEXT,
        "there is no such file",
        subject=name,
        help="check the path; it is relative to the current directory",
    )


def _not_a_file(name: str, mode: int) -> Diagnostic:
    """QR114: a directory, pipe, socket or device."""
    kind = "a directory" if stat.S_ISDIR(mode) else "a pipe, a socket or a device"
    return Diagnostic(
        Code.NOT_TEXT,
        f"a recipe must be a regular file, this is {kind}",
        subject=name,
        help="name a `.qrecipe` file",
    )


def _unreadable(name: str, error: OSError | ValueError) -> Diagnostic:
    """QR114: the operating system refuses."""
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return Diagnostic(Code.NOT_TEXT, "the file cannot be read", subject=name, notes=(f"{reason}",))


def _binary(name: str, offset: int) -> Diagnostic:
    """QR114: NUL bytes are in no text."""
    return Diagnostic(
        Code.NOT_TEXT,
        "the file is binary, not text",
        subject=name,
        notes=(f"a NUL byte stands at offset {offset}",),
        help="name a `.qrecipe` file; a recipe is UTF-8 text",
    )


def _not_utf8(name: str, data: bytes, offset: int) -> Diagnostic:
    """QR114: text in another encoding."""
    line = data.count(b"\n", 0, offset) + 1
    return Diagnostic(
        Code.NOT_TEXT,
        "the file is not UTF-8 text",
        subject=name,
        notes=(f"byte 0x{data[offset]:02x} at offset {offset}, on line {line}",),
        help="save the file as UTF-8",
    )
