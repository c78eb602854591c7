"""``check --fix`` and ``check --diff``: what was or would be changed in the files."""

from collections.abc import Sequence
from pathlib import Path

import click

from qcompile.diagnostics.failure import CompileError
from qcompile.diagnostics.findings import Selection
from qcompile.syntax.read import read


def fix_recipes(recipes: Sequence[Path], selection: Selection, *, only_show: bool) -> None:
    """Fix every file that can be read; with ``only_show`` end the command with a diff instead."""
    from qcompile.driver.fix import difference, fix, save
    from qcompile.driver.project_files import ProjectFiles

    changes = ""
    for path in recipes:
        source = read(path)
        if isinstance(source, list) or source.note:
            continue  # said by the check that follows; or not the text of this file
        fixed = fix(source, ProjectFiles.around(path), selection)
        if only_show:
            changes += difference(source, fixed.source)
        elif fixed.applied:
            problems = save(path, fixed.source.text)
            if problems:
                raise CompileError(problems)
            for item in fixed.applied:
                place = item.primary.span if item.primary else path
                click.echo(f"fixed {item.code.number} {item.code.slug} at {place}", err=True)
    if only_show:
        click.echo(changes, nl=False)
        raise click.exceptions.Exit(1 if changes else 0)
