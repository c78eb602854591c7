"""``qcompile plan``: what would happen to every tensor, before anything is spent."""

import json
from pathlib import Path

import click

from qcompile.cli.console import finish, json_object, show_diagnostics
from qcompile.cli.exit_codes import ExitCode
from qcompile.cli.options import json_option, param_option, policy_option, trust_option
from qcompile.cli.plan_view import plan_text, trace_text


@click.command("plan")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Save it.")
@click.option("--trace", "traced", metavar="LAYER", help="Every rule that touched LAYER.")
@click.option("--full", is_flag=True, help="Do not fold equal blocks.")
@click.option("--exit-code", is_flag=True, help="Exit 3 when anything would be quantized.")
@click.option(
    "--for",
    "formats",
    multiple=True,
    metavar="FORMAT",
    help="Hold the plan to what an export FORMAT can hold: pt2, onnx, compressed-tensors, gguf.",
)
@param_option
@policy_option
@json_option
@trust_option
def command(
    recipe: Path,
    output: Path | None,
    traced: str | None,
    full: bool,
    exit_code: bool,
    formats: tuple[str, ...],
    params: dict[str, str],
    packs: tuple[str, ...],
    as_json: bool,
    trust: tuple[str, ...],
) -> None:
    """Plan RECIPE: schemes, bytes, and the rule behind each decision."""
    if output is not None and output.suffix != ".json":
        raise click.BadParameter("a plan's name ends in `.json`", param_hint="--output")
    if as_json and traced is not None:
        raise click.UsageError("--json and --trace exclude each other")
    from qcompile.driver.plan import plan_recipe, save_plan

    planned = plan_recipe(recipe, trusted=frozenset(trust), params=params, packs=packs)
    if formats:
        from qcompile.driver.export import hold_to_formats

        hold_to_formats(planned, formats)
    if output is not None:
        save_plan(planned.plan, output)
    if as_json:
        document = json_object(
            planned.diagnostics, command="plan", plan=planned.plan.model_dump(mode="json")
        )
        click.echo(json.dumps(document, indent=2))
    elif traced is not None:
        show_diagnostics(planned.diagnostics)
        click.echo(trace_text(planned.trace(traced)), nl=False)
    else:
        show_diagnostics(planned.diagnostics)
        click.echo(plan_text(planned.plan, full=full), nl=False)
        if output is not None:
            click.echo(f"\nplan saved to {output}   run it:  qcompile run {output}")
    finish(planned.diagnostics)
    if exit_code and any(site.tensors for site in planned.plan.core.sites):
        raise click.exceptions.Exit(ExitCode.CHANGES)
