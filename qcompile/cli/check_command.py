"""``qcompile check``: everything that a recipe reveals without its model."""

from dataclasses import dataclass
from pathlib import Path

import click

from qcompile.cli.check_fix import fix_recipes
from qcompile.cli.check_view import FORMATS, code_prefixes, show
from qcompile.cli.console import finish, promise_json
from qcompile.cli.options import json_option, param_option, policy_option
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.findings import Findings, Selection
from qcompile.driver import front


@click.command("check")
@click.argument("recipes", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--model", "with_model", is_flag=True, help="Trace the model too (loads torch).")
@click.option("--trust", multiple=True, metavar="PACKAGE", help="Allow factories of PACKAGE.")
@param_option
@policy_option
@click.option("--format", "format_", type=click.Choice(FORMATS), default="text", show_default=True)
@json_option
@click.option(
    "--select", multiple=True, callback=code_prefixes, metavar="QR3,QR511", help="Only these codes."
)
@click.option(
    "--ignore", multiple=True, callback=code_prefixes, metavar="QR3,QR511", help="Not these codes."
)
@click.option("--statistics", is_flag=True, help="How often each code occurs.")
@click.option("--fix", "fixes", is_flag=True, help="Apply safe fixes to the files first.")
@click.option("--diff", is_flag=True, help="Show what --fix would change, and change nothing.")
@click.option("--warn-as-error", is_flag=True, help="Fail on warnings too.")
def command(
    recipes: tuple[Path, ...],
    with_model: bool,
    trust: tuple[str, ...],
    params: dict[str, str],
    packs: tuple[str, ...],
    format_: str,
    as_json: bool,
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    statistics: bool,
    fixes: bool,
    diff: bool,
    warn_as_error: bool,
) -> None:
    """Check RECIPES; with --model or --policy, check each against its model's graph too.

    --select and --ignore choose what is shown; `plan` and `run` refuse every error all the same.
    """
    if format_ == "json":
        promise_json(click.get_current_context())
    asked = _Asked(params, packs, with_model or bool(packs), frozenset(trust))
    selection = Selection(select, ignore)
    if fixes or diff:
        fix_recipes(recipes, selection, only_show=diff)
    findings = [Findings(str(path), tuple(selection.of(_check(path, asked)))) for path in recipes]
    show(findings, "json" if as_json else format_, statistics=statistics)
    finish([d for found in findings for d in found.diagnostics], warn_as_error=warn_as_error)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What each recipe is checked with."""

    params: dict[str, str]
    packs: tuple[str, ...]
    with_model: bool
    trusted: frozenset[str]


def _check(path: Path, asked: _Asked) -> list[Diagnostic]:
    checked = front.check(path, asked.params)
    if not asked.with_model or checked.recipe is None or checked.recipe.is_library:
        return list(checked.diagnostics)
    # torch loads here, and only when it was asked for
    from qcompile.diagnostics.failure import CompileError
    from qcompile.driver.bind import bind
    from qcompile.driver.open_plan import before_choosing

    try:
        recipe = front.with_expectations(checked.recipe, asked.packs)
        bound = bind(recipe, trusted=asked.trusted)
        found = [*bound.diagnostics, *before_choosing(bound)]
    except CompileError as error:
        found = error.diagnostics
    return front.settled(checked, found)
