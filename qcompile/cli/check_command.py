"""``qcompile check``: everything that a recipe reveals without its model."""

import json
from pathlib import Path

import click

from qcompile.cli.console import finish, json_object, show_diagnostics
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.driver import front


@click.command("check")
@click.argument("recipes", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--model", "with_model", is_flag=True, help="Trace the model too (loads torch).")
@click.option("--trust", multiple=True, metavar="PACKAGE", help="Allow factories of PACKAGE.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.option("--warn-as-error", is_flag=True, help="Fail on warnings too.")
def command(
    recipes: tuple[Path, ...],
    with_model: bool,
    trust: tuple[str, ...],
    as_json: bool,
    warn_as_error: bool,
) -> None:
    """Check RECIPES; with --model, check each against its model's graph too."""
    diagnostics: list[Diagnostic] = []
    for path in recipes:
        checked = front.check(path)
        diagnostics.extend(checked.diagnostics)
        if with_model and checked.recipe is not None and not checked.recipe.is_library:
            diagnostics.extend(_with_model(path, trust))
    if as_json:
        click.echo(json.dumps(json_object(diagnostics, command="check"), indent=2))
    else:
        show_diagnostics(diagnostics)
        if not diagnostics:
            click.echo(f"{len(recipes)} recipe{'s' if len(recipes) > 1 else ''} without problems")
    finish(diagnostics, warn_as_error=warn_as_error)


def _with_model(path: Path, trust: tuple[str, ...]) -> list[Diagnostic]:
    # torch loads here, and only when it was asked for
    from qcompile.diagnostics.failure import CompileError
    from qcompile.driver.bind import bind

    try:
        return list(bind(front.load_recipe(path), trusted=frozenset(trust)).diagnostics)
    except CompileError as error:
        return error.diagnostics
