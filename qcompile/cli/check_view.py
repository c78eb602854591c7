"""What ``check`` prints in each of its formats."""

import json
from collections.abc import Sequence

import click

from qcompile.cli.console import json_object, show_diagnostics
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.findings import Findings, counts

FORMATS = ("text", "json", "github", "sarif")


def show(findings: Sequence[Findings], format_: str, *, statistics: bool) -> None:
    """Print ``findings``: what programs read to stdout, what people read to stderr."""
    diagnostics = [item for found in findings for item in found.diagnostics]
    match format_:
        case "json":
            click.echo(_json(diagnostics, statistics))
        case "github":
            from qcompile.diagnostics.github import render_github

            click.echo(render_github(findings), nl=False)
        case "sarif":
            from qcompile import __version__
            from qcompile.diagnostics.sarif import render_sarif

            click.echo(render_sarif(findings, __version__))
        case _ if statistics:
            for code, number in counts(diagnostics):
                click.echo(f"{number:>5}  {code.number}  {code.severity.value:<7}  {code.slug}")
        case _:
            show_diagnostics(diagnostics)
            if not diagnostics:
                several = "s" if len(findings) > 1 else ""
                click.echo(f"{len(findings)} recipe{several} without problems")


def _json(diagnostics: Sequence[Diagnostic], statistics: bool) -> str:
    document = json_object(diagnostics, command="check")
    if statistics:
        document["statistics"] = {code.number: number for code, number in counts(diagnostics)}
    return json.dumps(document, indent=2)


def code_prefixes(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...]:
    """``("QR3,qr511",)`` to ``("QR3", "QR511")``; each must be the start of some code."""
    prefixes = tuple(part.strip().upper() for value in values for part in value.split(","))
    for prefix in prefixes:
        if not prefix or not any(code.number.startswith(prefix) for code in Code):
            raise click.BadParameter(f"no code starts with `{prefix}`", context, parameter)
    return prefixes
