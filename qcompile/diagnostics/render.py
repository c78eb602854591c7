"""Diagnostics as text for people and as JSON for programs."""

import json
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from qcompile.diagnostics.codes import Severity
from qcompile.diagnostics.columns import columns, printable
from qcompile.diagnostics.diagnostic import Diagnostic, Label

JSON_FORMAT_VERSION = "1.0"

_LONGEST_LINE = 160
"""Characters of a source line; of longer ones the neighbourhood of the first mark is shown."""
_BEFORE_MARK = 60


def render_text(diagnostics: Sequence[Diagnostic]) -> str:
    """Every diagnostic in full, one blank line between two, a line end at the end."""
    return "\n".join(f"{_one(item)}\n" for item in diagnostics)


def summary_line(diagnostics: Sequence[Diagnostic]) -> str:
    """Count by severity, as in ``2 errors, 1 warning``; empty when there is nothing to say."""
    counts = {severity: 0 for severity in Severity}
    for item in diagnostics:
        counts[item.severity] += 1
    return ", ".join(
        f"{n} {severity.value}{'s' if n > 1 else ''}" for severity, n in counts.items() if n
    )


def to_json(diagnostics: Iterable[Diagnostic]) -> dict[str, Any]:
    return {
        "format_version": JSON_FORMAT_VERSION,
        "diagnostics": [_as_dict(item) for item in diagnostics],
    }


def render_json(diagnostics: Iterable[Diagnostic]) -> str:
    return json.dumps(to_json(diagnostics), indent=2, ensure_ascii=False)


def _one(item: Diagnostic) -> str:
    lines = [f"{item.severity.value}[{item.code.number}]: {item.message}"]
    gutter = 1
    if item.primary is not None:
        excerpt = _excerpt(item.primary, item.secondary)
        gutter = excerpt[0].index("-->")
        lines.extend(excerpt)
    elif item.subject:
        lines.append(f" --> {item.subject}")
    pad = " " * gutter
    lines.extend(f"{pad} = note: {note}" for note in item.notes)
    if item.help:
        lines.append(f"{pad} = help: {item.help}")
    return printable("\n".join(lines))


def _excerpt(primary: Label, secondary: tuple[Label, ...]) -> list[str]:
    here = [label for label in secondary if label.span.source == primary.span.source]
    there = [label for label in secondary if label.span.source != primary.span.source]
    marks = sorted([(primary, "^"), *((label, "-") for label in here)], key=_mark_place)
    width = max(len(str(_line(item))) for item in marks)
    pad = " " * width
    lines = [f"{pad}--> {primary.span}", f"{pad} |"]
    previous: int | None = None
    for number, on_line in groupby(marks, _line):
        if previous is not None and number > previous + 1:
            lines.append("...")
        text, underlines = _marked_line(list(on_line))
        lines.append(f"{number:>{width}} | {text}".rstrip())
        lines.extend(f"{pad} | {underline}" for underline in underlines)
        previous = number
    lines.extend(f"{pad} = note: {label.text}: {label.span}" for label in there)
    return lines


def _mark_place(item: tuple[Label, str]) -> tuple[int, int]:
    return (item[0].span.start, item[0].span.end)


def _line(item: tuple[Label, str]) -> int:
    return item[0].span.location.line


def _marked_line(marks: list[tuple[Label, str]]) -> tuple[str, list[str]]:
    """Cut one line of source to what fits, with one underline for each of its marks."""
    span = marks[0][0].span
    line, column = span.location
    text = span.source.line(line)
    cut = 0 if len(text) <= _LONGEST_LINE else max(0, column - 1 - _BEFORE_MARK)
    shown = text[cut : cut + _LONGEST_LINE]
    return shown, [_underline(shown, label, mark, cut) for label, mark in marks]


def _underline(shown: str, label: Label, mark: str, cut: int) -> str:
    """Mark the part of the span that lies on its first line; ``cut`` characters are not shown."""
    start = min(label.span.location.column - 1 - cut, len(shown))
    marked = shown[start : start + (label.span.end - label.span.start)]
    marks = mark * max(1, columns(marked))
    return f"{' ' * columns(shown[:start])}{marks} {label.text}".rstrip()


def _as_dict(item: Diagnostic) -> dict[str, Any]:
    return {
        "code": item.code.number,
        "name": item.code.slug,
        "severity": item.severity.value,
        "message": item.message,
        "primary": _label_dict(item.primary) if item.primary else None,
        "secondary": [_label_dict(label) for label in item.secondary],
        "subject": item.subject or None,
        "notes": list(item.notes),
        "help": item.help,
        "fixes": [
            {
                "file": fix.span.source.name,
                "start": fix.span.start,
                "end": fix.span.end,
                "replacement": fix.replacement,
                "applicability": fix.applicability.value,
            }
            for fix in item.fixes
        ],
    }


def _label_dict(label: Label) -> dict[str, Any]:
    line, column = label.span.location
    return {
        "file": label.span.source.name,
        "start": label.span.start,
        "end": label.span.end,
        "line": line,
        "column": column,
        "label": label.text or None,
    }
