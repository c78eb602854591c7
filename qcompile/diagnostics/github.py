"""Diagnostics as workflow commands, which GitHub Actions shows beside the changed lines.

The escapes are those of ``@actions/core``: everything in a message goes on one line, and
properties are separated by ``,`` and ended by ``::``.
"""

from collections.abc import Iterable

from qcompile.diagnostics.codes import Severity
from qcompile.diagnostics.columns import printable
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.findings import Findings, repository_path

_COMMANDS = {
    Severity.ERROR: "error",
    Severity.WARNING: "warning",
    Severity.INFO: "notice",
}


def render_github(findings: Iterable[Findings]) -> str:
    """One ``::error file=...::message`` a line; empty when there is nothing to say."""
    return "".join(
        f"{_command(item, found.file)}\n" for found in findings for item in found.diagnostics
    )


def _command(item: Diagnostic, file: str) -> str:
    properties = {
        **_place(item, file),
        "title": f"{item.code.number} {item.code.slug}",
    }
    shown = ",".join(f"{key}={_property(value)}" for key, value in properties.items())
    return f"::{_COMMANDS[item.severity]} {shown}::{_message(item)}"


def _place(item: Diagnostic, file: str) -> dict[str, str]:
    if item.primary is None:
        return {"file": repository_path(file)}
    span = item.primary.span
    line, column = span.location
    end_line, end_column = span.source.location(span.end)
    place = {
        "file": repository_path(span.source.name),
        "line": str(line),
        "col": str(column),
    }
    # the host knows columns only within one line
    return place | {"endColumn": str(end_column)} if line == end_line else place


def _message(item: Diagnostic) -> str:
    subject = [f"at {item.subject}"] if item.subject and item.primary is None else []
    help_ = [f"help: {item.help}"] if item.help else []
    return _escaped("\n".join([item.message, *subject, *item.notes, *help_]))


def _escaped(text: str) -> str:
    return printable(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")
