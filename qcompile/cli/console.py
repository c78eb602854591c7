"""Where output goes: results to stdout, progress and problems to stderr."""

import json
from collections.abc import Sequence
from typing import Any

import click

from qcompile.cli.exit_codes import ExitCode, exit_code
from qcompile.diagnostics.codes import Severity
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.render import render_text, summary_line, to_json

_JSON_COMMAND = "qcompile.cli.json_command"
"""Where a context, and those around it, keep the name of the command that promised JSON."""
_COLOURS = {"error": "red", "warning": "yellow", "info": "blue"}


def show_diagnostics(diagnostics: Sequence[Diagnostic]) -> None:
    """Print every diagnostic and a line that counts them, to stderr."""
    if not diagnostics:
        return
    for item in diagnostics:
        head, _, rest = render_text([item]).partition("]: ")
        style = _COLOURS[item.severity.value]
        click.echo(click.style(f"{head}]", fg=style, bold=True) + f": {rest}", err=True)
    click.echo(summary_line(diagnostics), err=True)


def json_object(diagnostics: Sequence[Diagnostic], **fields: Any) -> dict[str, Any]:  # noqa: ANN401
    """One JSON object a command: its own fields beside the diagnostics."""
    return {**to_json(diagnostics), **fields}


def promise_json(ctx: click.Context) -> None:
    """From here on the command answers with one JSON object, whatever becomes of it."""
    ctx.meta[_JSON_COMMAND] = ctx.info_name


def show_failure(ctx: click.Context, diagnostics: Sequence[Diagnostic]) -> None:
    """Say why the command called in ``ctx`` has no result, in the form that it was asked for."""
    command = ctx.meta.get(_JSON_COMMAND)
    if command is None:
        show_diagnostics(diagnostics)
    else:
        click.echo(json.dumps(json_object(diagnostics, command=command), indent=2))


def finish(diagnostics: Sequence[Diagnostic], *, warn_as_error: bool = False) -> None:
    """End the command with the status that ``diagnostics`` ask for."""
    status = exit_code(diagnostics)
    warned = any(d.severity is Severity.WARNING for d in diagnostics)
    if status is ExitCode.OK and warn_as_error and warned:
        status = ExitCode.PROBLEMS
    if status is not ExitCode.OK:
        raise click.exceptions.Exit(status)
