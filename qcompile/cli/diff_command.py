"""``qcompile diff``: what a change of a recipe means, for a person who reviews it."""

import json
from typing import TYPE_CHECKING

import click

from qcompile.cli.console import json_object, promise_json
from qcompile.cli.diff_view import diff_markdown, diff_text
from qcompile.cli.exit_codes import ExitCode
from qcompile.cli.options import check_limit, json_option, limit_option, param_option, trust_option

if TYPE_CHECKING:
    from qcompile.policy.plan_diff import PlanDiff

FORMATS = ("text", "markdown", "json")


@click.command("diff")
@click.argument("before")
@click.argument("after")
@click.option("--model", metavar="REFERENCE", help="Plan recipes for this model instead.")
@click.option("--breaking", is_flag=True, help="Exit 1 when a change is breaking.")
@click.option("--exit-code", is_flag=True, help="Exit 3 when anything changes.")
@click.option("--format", "format_", type=click.Choice(FORMATS), default="text", show_default=True)
@limit_option
@click.option("--full", is_flag=True, help="Do not fold equal changes.")
@param_option
@json_option
@trust_option
def command(
    before: str,
    after: str,
    model: str | None,
    breaking: bool,
    exit_code: bool,
    format_: str,
    limit: int,
    full: bool,
    params: dict[str, str],
    as_json: bool,
    trust: tuple[str, ...],
) -> None:
    """Compare what BEFORE and AFTER do to a model, whatever their texts look like.

    Each is a recipe, a saved plan, an artifact, or `REVISION:PATH` of git. Recipes are previewed:
    no weights are read. A change is breaking where accuracy may fall by it: fewer bits, a tensor
    newly quantized, another model or target, a rule that selects nothing any more.
    """
    shown_as = "json" if as_json else format_
    check_limit(shown_as)
    if shown_as == "json":
        promise_json(click.get_current_context())
    from qcompile.driver.diff import Compare, diff

    found = diff(before, after, Compare(frozenset(trust), params, model))
    click.echo(_document(found, shown_as, full=full, limit=limit), nl=False)
    if breaking and found.breaking:
        raise click.exceptions.Exit(ExitCode.PROBLEMS)
    if exit_code and not found.is_empty:
        raise click.exceptions.Exit(ExitCode.CHANGES)


def _document(found: "PlanDiff", shown_as: str, *, full: bool, limit: int) -> str:
    if shown_as == "json":
        document = json_object([], command="diff", diff=found.model_dump(mode="json"))
        return json.dumps(document, indent=2) + "\n"
    if shown_as == "markdown":
        return diff_markdown(found, full=full, limit=limit)
    return diff_text(found, full=full)
