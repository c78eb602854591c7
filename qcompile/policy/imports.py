"""Where an ``import`` leads, by its text alone; whoever can read files says what is there."""

import posixpath
import re
from collections.abc import Mapping
from dataclasses import field
from typing import Protocol

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.diagnostics.frozen import frozen
from qcompile.diagnostics.source import Source
from qcompile.diagnostics.suggest import nearest
from qcompile.syntax.nodes import Import

LIBRARY = "std:"
"""Begins the name of a library that ships with the compiler."""

_LIBRARY_NAME = re.compile(r"std:[a-z][a-z0-9_]*")
_SCHEME_OR_DRIVE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


@frozen
class Refusal:
    """Why there is no file for an import; ``leaves`` tells QR204 from QR205."""

    reason: str
    help: str
    leaves: bool = False


class Loader(Protocol):
    """Reads the files of a closure by the names that ``locate`` gives them."""

    def read(self, name: str) -> Source | Refusal: ...


@frozen
class StoredTexts:
    """Files that are at hand: the closure that a plan or an artifact keeps."""

    texts: Mapping[str, str] = field(default_factory=dict[str, str])

    def read(self, name: str) -> Source | Refusal:
        text = self.texts.get(name)
        return not_found(name, self.texts) if text is None else Source(name, text)


def locate(path: str, importer: str) -> str | Refusal:
    """The name of the file that ``path`` means in the file called ``importer``.

    Names are compared as text: ``a/../b`` is ``b`` even where ``a`` is a link.
    """
    if path.startswith(LIBRARY):
        if _LIBRARY_NAME.fullmatch(path):
            return path
        return Refusal("it is not the name of a library", 'write, for example, "std:cnn"')
    if _is_elsewhere(path):
        return Refusal(
            "it is not relative to this file",
            "copy the file into the project, and import it by its relative path",
            leaves=True,
        )
    if not path or "\0" in path or "\\" in path:
        return Refusal("it is not a path", 'write a path with `/`, such as "lib/schemes.qrecipe"')
    if importer.startswith(LIBRARY):
        return Refusal("a library imports libraries alone", 'write, for example, "std:cnn"')
    return posixpath.normpath(posixpath.join(posixpath.dirname(importer), path))


def _is_elsewhere(path: str) -> bool:
    return path.startswith(("/", "~", "\\")) or _SCHEME_OR_DRIVE.match(path) is not None


def not_found(name: str, known: Mapping[str, object] | list[str]) -> Refusal:
    guesses = nearest(name, known, 3)
    listed = ", ".join(f"`{guess}`" for guess in guesses)
    return Refusal(
        "there is no such file",
        f"the nearest are {listed}" if guesses else "check the path: it is relative to this file",
    )


def refused(node: Import, refusal: Refusal) -> Diagnostic:
    """QR204, QR205."""
    if refusal.leaves:
        return Diagnostic(
            Code.IMPORT_LEAVES,
            f"import leaves the project: `{node.path.value}`",
            Label(node.path.span, refusal.reason),
            help=refusal.help,
        )
    return Diagnostic(
        Code.CANNOT_IMPORT,
        f"cannot import `{node.path.value}`",
        Label(node.path.span, refusal.reason),
        help=refusal.help,
    )
