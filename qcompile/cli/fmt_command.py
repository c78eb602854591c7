"""``qcompile fmt``: the one layout of a recipe, or its form for programs."""

import sys
from pathlib import Path

import click

from qcompile.cli.console import finish, show_diagnostics
from qcompile.cli.exit_codes import ExitCode
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.driver.fix import difference
from qcompile.driver.format import (
    MAX_PIPE_BYTES,
    Form,
    Formatted,
    format_bytes,
    format_file,
    recipes_in,
    write,
)


@click.command("fmt")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--check", is_flag=True, help="Write nothing; fail if a file would change.")
@click.option("--diff", is_flag=True, help="Write nothing; show what would change.")
@click.option(
    "--to",
    type=click.Choice([form.value for form in Form]),
    help="Print one recipe in this form.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write one recipe here instead of printing or replacing it.",
)
def command(
    files: tuple[Path, ...], check: bool, diff: bool, to: str | None, output: Path | None
) -> None:
    """Format FILES in place; in a folder every *.qrecipe file; of `-` read stdin, write stdout."""
    if Path("-") in files:
        _pipe(files, None if to is None else Form(to), check, diff, output)
        return
    if to is not None or output is not None:
        if check or diff:
            raise click.UsageError("--to and -o go with neither --check nor --diff")
        _convert(files, None if to is None else Form(to), output)
        return
    paths = recipes_in(files)
    if not paths:
        raise click.UsageError("no *.qrecipe file in these folders")
    results = [format_file(path) for path in paths]
    problems = [problem for result in results if isinstance(result, list) for problem in result]
    changed = [one for one in results if isinstance(one, Formatted) and one.is_changed]
    if diff:
        click.echo("".join(difference(one.before, one.after) for one in changed), nl=False)
    _report(changed, len(paths), done=not check and not diff)
    if not check and not diff:
        problems += [problem for one in changed for problem in write(one.path, one.after.text)]
    show_diagnostics(problems)
    finish(problems)
    if check and changed:
        raise click.exceptions.Exit(ExitCode.PROBLEMS)


def _pipe(
    files: tuple[Path, ...], form: Form | None, check: bool, diff: bool, output: Path | None
) -> None:
    if len(files) != 1 or output is not None:
        raise click.UsageError("`-` goes with no other file, and with no -o")
    if form is not None and (check or diff):
        raise click.UsageError("--to goes with neither --check nor --diff")
    result = format_bytes(sys.stdin.buffer.read(MAX_PIPE_BYTES), form)
    if isinstance(result, list):
        show_diagnostics(result)
        finish(result)
        return
    if diff:
        click.echo(difference(result.before, result.after), nl=False)
    elif not check:
        click.echo(result.after.text, nl=False)
    if check and result.is_changed:
        raise click.exceptions.Exit(ExitCode.PROBLEMS)


def _convert(files: tuple[Path, ...], form: Form | None, output: Path | None) -> None:
    if len(files) != 1:
        raise click.UsageError("--to and -o take one file")
    result = format_file(files[0], form)
    problems: list[Diagnostic] = []
    if isinstance(result, list):
        problems = result
    elif output is None:
        click.echo(result.after.text, nl=False)
    else:
        problems = write(output, result.after.text)
    show_diagnostics(problems)
    finish(problems)


def _report(changed: list[Formatted], total: int, *, done: bool) -> None:
    """Name the files to stderr: stdout is for a diff."""
    verb = "change" if done else "would change"
    for one in changed:
        click.echo(f"{verb} {one.path}", err=True)
    click.echo(f"{verb} {len(changed)} of {total} recipe{'s' if total > 1 else ''}", err=True)
