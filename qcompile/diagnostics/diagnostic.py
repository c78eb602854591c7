"""The one value for every problem that a user can cause."""

from collections.abc import Iterable
from enum import Enum

from qcompile.diagnostics.codes import Code, Severity
from qcompile.diagnostics.frozen import frozen
from qcompile.diagnostics.source import Span


@frozen
class Label:
    """A span with what is to be said of it: what this text *is*, never what to do."""

    span: Span
    text: str = ""


class Applicability(Enum):
    """Whether a fix may be applied without a person looking at it."""

    SAFE = "safe"
    UNSAFE = "unsafe"


@frozen
class Fix:
    """Replace the text of ``span`` by ``replacement``; several of one diagnostic are a choice."""

    span: Span
    replacement: str
    applicability: Applicability = Applicability.SAFE


@frozen
class Diagnostic:
    """A problem: what is wrong, where, and a way out.

    ``message`` is lower case, has no full stop, puts names in backticks and says only *what*;
    ``primary`` says where in a recipe; ``subject`` says where when no recipe text is to blame
    (a tensor, a file, a field of a plan); the way out stands in ``help`` alone.
    """

    code: Code
    message: str
    primary: Label | None = None
    secondary: tuple[Label, ...] = ()
    subject: str = ""
    notes: tuple[str, ...] = ()
    help: str | None = None
    fixes: tuple[Fix, ...] = ()
    severity_override: Severity | None = None

    @property
    def severity(self) -> Severity:
        return self.severity_override or self.code.severity

    @property
    def is_error(self) -> bool:
        return self.severity is Severity.ERROR


def has_errors(diagnostics: Iterable[Diagnostic]) -> bool:
    return any(item.is_error for item in diagnostics)


def in_order(diagnostics: Iterable[Diagnostic], limit: int = 20) -> list[Diagnostic]:
    """Sort by file and offset, merge those of equal code and place, keep ``limit`` a file.

    Each severity is merged and counted apart: warnings, however many, never hide an error.
    """
    seen: set[tuple[object, ...]] = set()
    kept: list[Diagnostic] = []
    per_file: dict[tuple[str, Severity], int] = {}
    for item in sorted(diagnostics, key=_place):
        told = item.message if item.primary is None else ""
        key = (item.code, item.severity, *_place(item), told)
        group = (_place(item)[0], item.severity)
        if key in seen or per_file.get(group, 0) >= limit:
            continue
        seen.add(key)
        per_file[group] = per_file.get(group, 0) + 1
        kept.append(item)
    return kept


def _place(item: Diagnostic) -> tuple[str, int, int, str]:
    if item.primary is None:
        return ("", 0, 0, item.subject)
    span = item.primary.span
    return (span.source.name, span.start, span.end, "")
