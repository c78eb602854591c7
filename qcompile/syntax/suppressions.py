"""``# qcompile: ignore[QR303] reason``: a warning that somebody has looked at.

The comment speaks for its own line or, alone on a line, for the next line that holds more than a
comment. It silences warnings only: what is an error stays one.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeAlias

from qcompile.diagnostics.codes import Code, Severity
from qcompile.diagnostics.diagnostic import Diagnostic, Fix, Label, has_errors
from qcompile.diagnostics.frozen import frozen
from qcompile.diagnostics.source import Source, Span
from qcompile.diagnostics.suggest import did_you_mean
from qcompile.syntax.marks import comments

_DIRECTIVE = re.compile(r"#+\s*qcompile:")
_IGNORE = re.compile(r"#+\s*qcompile:\s*ignore\s*\[(?P<codes>[\w\s,]*)\](?P<reason>.*)")
Place: TypeAlias = tuple[str, int, str]
"""File, line and code."""

_WARNINGS = frozenset(item.number for item in Code if item.severity is not Severity.ERROR)
_OWN_CODES = frozenset({Code.UNUSED_SUPPRESSION, Code.SUPPRESSION_WITHOUT_REASON})
_KNOWN_EARLY = ("QR1", "QR2", "QR4")
"""Blocks of codes that a recipe reveals without its model."""
_OF_THE_MACHINE = frozenset({Code.TOO_LITTLE_MEMORY.number})
"""Elsewhere the same recipe is warned of: it is right to silence them everywhere."""
_MOST = 20
"""Reports of one kind, and codes named in one: text may hold a hundred thousand."""


@frozen
class Suppression:
    """``codes`` as they are written; ``line`` is the line whose warnings they silence."""

    codes: tuple[str, ...]
    reason: str
    line: int
    span: Span
    """The comment."""
    codes_span: Span
    """Between the brackets."""

    @property
    def places(self) -> list[Place]:
        return [(self.span.source.name, self.line, code) for code in self.codes]


@frozen
class Judged:
    """What is left to say, and what a suppression has silenced."""

    diagnostics: tuple[Diagnostic, ...]
    silenced: tuple[Diagnostic, ...]


def apply_suppressions(
    diagnostics: Iterable[Diagnostic], source: Source, *, with_model: bool
) -> Judged:
    """Take out what the comments of ``source`` silence; report what is wrong with them.

    A later phase hands in both halves of an earlier result again, with its own findings: reports
    about the comments themselves are made anew. What silences nothing is reported only when the
    phases that might have needed it were run to their end. A file that ``source`` imports silences
    its own warnings; what is wrong with its comments is said when it is checked itself.
    """
    found = [item for item in diagnostics if item.code not in _OWN_CODES]
    suppressions, problems = suppressions_in(source)
    imported = {item.primary.span.source for item in found if item.primary} - {source}
    elsewhere = [one for other in imported for one in suppressions_in(other)[0]]
    asked = {place for one in (*suppressions, *elsewhere) for place in one.places}
    silenced = [item for item in found if _place(item) in asked]
    left = [item for item in found if _place(item) not in asked]
    if not has_errors(left):
        used = {_place(item) for item in silenced}
        unused = (_unused(suppression, used, with_model) for suppression in suppressions)
        problems.extend(islice(filter(None, unused), _MOST))
    return Judged((*left, *problems), tuple(silenced))


def _place(item: Diagnostic) -> Place | None:
    """Where an item may be silenced, if it may."""
    if item.is_error or item.primary is None:
        return None
    span = item.primary.span
    return (span.source.name, span.location.line, item.code.number)


def _unused(
    suppression: Suppression, used: set[Place | None], with_model: bool
) -> Diagnostic | None:
    places = zip(suppression.codes, suppression.places, strict=True)
    unused = [code for code, place in places if place not in used and code not in _OF_THE_MACHINE]
    judged = [code for code in unused if with_model or not _is_known_late(code)]
    return silences_nothing(suppression, judged) if judged else None


def suppressions_in(source: Source) -> tuple[list[Suppression], list[Diagnostic]]:
    """The suppressions of a text; and a problem for each that has no reason or no sense."""
    found: list[Suppression] = []
    problems: list[Diagnostic] = []
    if "qcompile:" not in source.text:
        return found, problems
    lines = _lines_with_more_than_a_comment(source)
    for span in _directives(source):
        match = _IGNORE.fullmatch(span.text)
        if match is None or not match["codes"].strip():
            problems.append(unreadable_suppression(span))
        elif not match["reason"].strip(" \t:-"):
            problems.append(without_reason(span))
        else:
            inside = source.span(span.start + match.start("codes"), span.start + match.end("codes"))
            codes = tuple(dict.fromkeys(re.findall(r"\w+", match["codes"])))
            reason = match["reason"].strip()
            found.append(Suppression(codes, reason, _line_meant(span, lines), span, inside))
    return found, problems


def _directives(source: Source) -> Iterator[Span]:
    for start, end in comments(source.text):
        if _DIRECTIVE.match(source.text, start, end):
            yield source.span(start, end)


def _lines_with_more_than_a_comment(source: Source) -> list[int]:
    last = source.location(len(source.text)).line
    return [n for n in range(1, last + 1) if source.line(n).lstrip()[:1] not in ("", "#")]


def _line_meant(comment: Span, lines: list[int]) -> int:
    """The line of the comment if it is one of ``lines``, else the next of them."""
    line = comment.location.line
    place = bisect_left(lines, line)
    return lines[place] if place < len(lines) else line


def _is_known_late(code: str) -> bool:
    """Whether only the model can tell if ``code`` occurs; an error or no code is known at once."""
    return code in _WARNINGS and not code.startswith(_KNOWN_EARLY)


def silences_nothing(suppression: Suppression, codes: Sequence[str]) -> Diagnostic:
    """QR190: the warning is gone, never was, or is an error."""
    gone = set(codes)
    kept = [code for code in suppression.codes if code not in gone]
    if kept:
        fix = Fix(suppression.codes_span, ", ".join(kept))
    else:
        fix = Fix(_with_blanks_before(suppression.span), "")
    names = ", ".join(f"`{code}`" for code in codes[:_MOST])
    return Diagnostic(
        Code.UNUSED_SUPPRESSION,
        f"the suppression of {names} silences nothing",
        Label(suppression.codes_span),
        notes=tuple(note for code in codes[:_MOST] if (note := _why(code))),
        help=f"leave {names} out" if kept else "delete the comment",
        fixes=(fix,),
    )


def _why(code: str) -> str | None:
    known = {item.number: item for item in Code}
    if code not in known:
        guess = did_you_mean(code, known)
        return f"there is no code `{code}`" + (f"; {guess}" if guess else "")
    if known[code].severity is Severity.ERROR:
        return f"`{code}` is an error; only warnings can be silenced"
    return None


def _with_blanks_before(comment: Span) -> Span:
    before = comment.source.text[: comment.start]
    return comment.source.span(len(before.rstrip(" \t")), comment.end)


def unreadable_suppression(span: Span) -> Diagnostic:
    """QR190: meant as a suppression, and not one."""
    return Diagnostic(
        Code.UNUSED_SUPPRESSION,
        "this suppression cannot be read and silences nothing",
        Label(span),
        help="write `# qcompile: ignore[QR303] reason`",
    )


def without_reason(span: Span) -> Diagnostic:
    """QR191."""
    return Diagnostic(
        Code.SUPPRESSION_WITHOUT_REASON,
        "a suppression needs a reason",
        Label(span, "nothing follows the `]`"),
        help="say after the `]` why the warning may be ignored here",
    )
