"""Safe fixes of a recipe: applied to its text until nothing more can be fixed."""

from codecs import BOM_UTF8
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path

from qcompile.diagnostics.diagnostic import Applicability, Diagnostic, Fix, has_errors
from qcompile.diagnostics.findings import Selection
from qcompile.diagnostics.source import Source
from qcompile.driver.front import check_source
from qcompile.policy.imports import Loader
from qcompile.policy.lower import NO_FILES
from qcompile.store.atomic import write_file
from qcompile.store.disk import Disk

MAX_ROUNDS = 50
"""A fix uncovers what the next check can see; more rounds than this are fixes that undo others."""
ALL = Selection()


@dataclass(frozen=True, slots=True)
class Fixed:
    """``source`` after the fixes of ``applied``, each with its place at that time."""

    source: Source
    applied: tuple[Diagnostic, ...]


def fix(source: Source, loader: Loader = NO_FILES, selection: Selection = ALL) -> Fixed:
    """Apply what is safe, of the selected codes: the only fix of a problem, and marked so.

    Warnings wait until no error is left: a misspelt reference makes its definition look unused.
    """
    applied: list[Diagnostic] = []
    for _ in range(MAX_ROUNDS):
        found = check_source(source, loader).diagnostics
        if has_errors(found):
            found = [item for item in found if item.is_error]
        chosen = _apart(item for item in selection.of(found) if _is_safe(item, source))
        if not chosen:
            break
        applied.extend(chosen)
        source = Source(source.name, _with(source.text, [item.fixes[0] for item in chosen]))
    return Fixed(source, tuple(applied))


def save(path: Path, text: str) -> list[Diagnostic]:
    """Write ``text`` over a recipe, atomically; a link stays one, a byte order mark stays."""
    target = path.resolve()
    with target.open("rb") as stream:
        mark = BOM_UTF8 if stream.read(len(BOM_UTF8)) == BOM_UTF8 else b""
    return write_file(Disk(), target, mark + text.encode())


def difference(before: Source, after: Source) -> str:
    """A unified diff, empty when nothing changed."""
    lines = unified_diff(
        before.text.splitlines(keepends=True),
        after.text.splitlines(keepends=True),
        before.name,
        after.name,
    )
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)


def _apart(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """In order of their fixes, without any that touches the text of an earlier one."""
    chosen: list[Diagnostic] = []
    reached = -1
    for item in sorted(diagnostics, key=lambda d: d.fixes[0].span.start):
        span = item.fixes[0].span
        if span.start > reached:
            chosen.append(item)
            reached = span.end
    return chosen


def _is_safe(item: Diagnostic, source: Source) -> bool:
    match item.fixes:
        case [only]:
            return only.applicability is Applicability.SAFE and only.span.source == source
        case _:
            return False


def _with(text: str, fixes: list[Fix]) -> str:
    for one in reversed(fixes):
        start, end = one.span.start, one.span.end
        if not one.replacement:
            start, end = _whole_lines(text, start, end)
        text = text[:start] + one.replacement + text[end:]
    return text


def _whole_lines(text: str, start: int, end: int) -> tuple[int, int]:
    """``[start, end)``, or the lines that it leaves empty."""
    line_start = text.rfind("\n", 0, start) + 1
    line_end = text.find("\n", end) + 1 or len(text)
    around = text[line_start:start] + text[end:line_end]
    return (start, end) if around.strip() else (line_start, line_end)
