"""``qcompile select``: what an expression means in a model, before a rule relies on it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qcompile.cli.console import finish, json_object, show_diagnostics
from qcompile.cli.options import json_option, param_option, trust_option
from qcompile.diagnostics.quantities import human_count

if TYPE_CHECKING:
    from qcompile.driver.select import Selected


@click.command("select")
@click.argument("expression")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--model", metavar="REFERENCE", help="Of this model instead of the recipe's.")
@param_option
@json_option
@trust_option
def command(
    expression: str,
    recipe: Path,
    model: str | None,
    params: dict[str, str],
    as_json: bool,
    trust: tuple[str, ...],
) -> None:
    """List the sites that EXPRESSION selects in the model of RECIPE, whose names it may use.

    No weights are read. A pattern that matches nothing is an error, with the nearest paths.
    """
    from qcompile.driver.select import select

    found, problems = select(
        expression, recipe, trusted=frozenset(trust), params=params, model=model
    )
    if as_json:
        document = json_object(problems, command="select", **found.model_dump(mode="json"))
        click.echo(json.dumps(document, indent=2))
    else:
        show_diagnostics(problems)
        click.echo(_text(found), nl=False)
    finish(problems)


def _text(found: "Selected") -> str:
    rows = [
        (
            site.key,
            site.kind,
            "x".join(map(str, site.shape)) if site.shape else "",
            "" if site.macs is None else f"{human_count(site.macs)} MACs",
            site.scheme or "float",
        )
        for site in found.sites
    ]
    widths = [max((len(row[at]) for row in rows), default=0) for at in range(5)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, f"{len(rows)} of {found.total} sites"]) + "\n"
