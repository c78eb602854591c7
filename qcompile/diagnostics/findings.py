"""What a file was found to have: the unit of the formats that other programs read."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.frozen import frozen

REPOSITORY_MARKS = (".git", "qcompile.toml")


@frozen
class Findings:
    """``file`` is the place of what points at no text, such as a missing weight."""

    file: str
    diagnostics: tuple[Diagnostic, ...]


def repository_path(name: str) -> str:
    """``name`` as seen from the root of its repository: what code hosts put annotations on.

    The root is the nearest directory above with ``.git``, else with ``qcompile.toml``, else the
    current one. A file outside keeps its absolute path.
    """
    path = Path(name).resolve()
    roots = [
        parent for mark in REPOSITORY_MARKS for parent in path.parents if (parent / mark).exists()
    ]
    root = roots[0] if roots else Path.cwd()
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


@frozen
class Selection:
    """Codes by the start of their number: one of ``select`` (empty: any), none of ``ignore``."""

    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()

    def of(self, diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
        return [item for item in diagnostics if self._has(item.code.number)]

    def _has(self, number: str) -> bool:
        wanted = not self.select or number.startswith(self.select)
        return wanted and not number.startswith(self.ignore)


def counts(diagnostics: Iterable[Diagnostic]) -> list[tuple[Code, int]]:
    """How often each code occurs, the most frequent first."""
    found = Counter(item.code for item in diagnostics)
    return sorted(found.items(), key=lambda pair: (-pair[1], pair[0].number))
