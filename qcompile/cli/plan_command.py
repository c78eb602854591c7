"""``qcompile plan``: what would happen to every tensor, before anything is spent."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qcompile.cli.console import finish, json_object, promise_json, show_diagnostics
from qcompile.cli.exit_codes import ExitCode
from qcompile.cli.export_command import SUFFIXES
from qcompile.cli.options import (
    check_limit,
    json_option,
    limit_option,
    param_option,
    policy_option,
    trust_option,
)
from qcompile.cli.plan_markdown import plan_markdown
from qcompile.cli.plan_view import plan_text
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.failure import CompileError

if TYPE_CHECKING:
    from qcompile.driver.plan import Planned

FORMATS = ("text", "markdown", "json")


@dataclass(frozen=True, slots=True)
class _Asked:
    """How each model is planned and shown."""

    recipe: Path
    trusted: frozenset[str]
    params: dict[str, str]
    packs: tuple[str, ...]
    preview: bool
    forecast: bool
    traced: str | None
    format: str
    full: bool
    limit: int
    held_to: tuple[str, ...]
    """Formats that an artifact of the plan will be exported to."""
    measured: Path | None
    """A plan that has measured what `choose` costs."""


@click.command("plan")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Save it.")
@click.option("--trace", "traced", metavar="LAYER", help="Every rule, and what it gave LAYER.")
@click.option(
    "--graph",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Draw the blocks into FILE.svg or FILE.dot.",
)
@click.option("--preview", is_flag=True, help="Without weights and data; it cannot be run.")
@click.option(
    "--forecast",
    is_flag=True,
    help="Time, memory and disk of a run; measures this machine once.",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="REFERENCE",
    help="Plan this model instead of the recipe's; several, one after another.",
)
@click.option("--format", "format_", type=click.Choice(FORMATS), default="text", show_default=True)
@limit_option
@click.option("--full", is_flag=True, help="Do not fold equal blocks.")
@click.option("--exit-code", is_flag=True, help="Exit 3 when anything would be quantized.")
@click.option(
    "--for",
    "held_to",
    multiple=True,
    type=click.Choice(tuple(SUFFIXES)),
    help="Refuse what `export --to` could not hold; several, one after another.",
)
@click.option(
    "--measured",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="PLAN",
    help="Measure for `choose` only what this saved plan has not.",
)
@param_option
@policy_option
@json_option
@trust_option
def command(
    recipe: Path,
    output: Path | None,
    traced: str | None,
    graph: Path | None,
    preview: bool,
    forecast: bool,
    models: tuple[str, ...],
    format_: str,
    limit: int,
    full: bool,
    exit_code: bool,
    held_to: tuple[str, ...],
    measured: Path | None,
    params: dict[str, str],
    packs: tuple[str, ...],
    as_json: bool,
    trust: tuple[str, ...],
) -> None:
    """Plan RECIPE: schemes, bytes, work, and the rule behind each decision."""
    if output is not None and output.suffix != ".json":
        raise click.BadParameter("a plan's name ends in `.json`", param_hint="--output")
    if output is not None and models:
        raise click.UsageError("a plan is saved of the recipe's own model: -o excludes --model")
    if graph is not None and (graph.suffix not in (".svg", ".dot") or len(models) > 1):
        raise click.BadParameter("name one `.svg` or `.dot` of one model", param_hint="--graph")
    shown_as = "json" if as_json else format_
    check_limit(shown_as)
    if shown_as == "json":
        promise_json(click.get_current_context())
    asked = _Asked(
        recipe=recipe,
        trusted=frozenset(trust),
        params=params,
        packs=packs,
        preview=preview,
        forecast=forecast,
        traced=traced,
        format=shown_as,
        full=full,
        limit=limit,
        held_to=held_to,
        measured=measured,
    )
    outcomes = [_plan(asked, model) for model in models or (None,)]
    planned = [one for one in outcomes if not isinstance(one, list)]
    _write(planned, output, graph)
    _show(asked, models, outcomes)
    if output is not None and planned and shown_as == "text":
        further = "" if preview else f"   run it:  qcompile run {output}"
        click.echo(f"\nplan saved to {output}{further}")
    finish([item for one in outcomes for item in _diagnostics(one)])
    if exit_code and any(site.tensors for one in planned for site in one.plan.core.sites):
        raise click.exceptions.Exit(ExitCode.CHANGES)


def _write(planned: "list[Planned]", output: Path | None, graph: Path | None) -> None:
    if output is not None:
        from qcompile.driver.saved_plan import save_plan

        for one in planned:
            save_plan(one.plan, output)
    if graph is not None:
        from qcompile.cli.graph_view import graph_dot, graph_svg
        from qcompile.driver.block_graph import block_graph
        from qcompile.driver.saved_plan import save_document
        from qcompile.report.plan_rows import title

        draw = graph_svg if graph.suffix == ".svg" else graph_dot
        for one in planned:
            save_document(graph, draw(block_graph(one), title(one.plan.core)).encode())


def _plan(asked: _Asked, model: str | None) -> "Planned | list[Diagnostic]":
    """The plan for one model, or why there is none."""
    from qcompile.cli.measuring_view import measuring
    from qcompile.driver.measured import Saved
    from qcompile.driver.plan import plan_recipe
    from qcompile.driver.saved_plan import read_plan

    try:
        before = asked.measured
        saved = None if before is None else Saved(read_plan(before), str(before))
        with measuring() as progress:
            planned = plan_recipe(
                asked.recipe,
                trusted=asked.trusted,
                params=asked.params,
                packs=asked.packs,
                model=model,
                preview=asked.preview,
                forecast=asked.forecast,
                measured=saved,
                progress=progress,
            )
        output = planned.bound.recipe.output
        judged = () if output is None else output.exports  # with the plan itself
        further = [name for name in dict.fromkeys(asked.held_to) if name not in judged]
        if further:
            from qcompile.driver.held_formats import hold_to_formats

            warned = hold_to_formats(planned, further)
            planned = replace(planned, diagnostics=(*planned.diagnostics, *warned))
    except CompileError as error:
        return error.diagnostics
    return planned


def _diagnostics(outcome: "Planned | list[Diagnostic]") -> list[Diagnostic]:
    return outcome if isinstance(outcome, list) else list(outcome.diagnostics)


def _show(
    asked: _Asked, models: tuple[str, ...], outcomes: "list[Planned | list[Diagnostic]]"
) -> None:
    if asked.format == "json":
        click.echo(json.dumps(_json(asked, models, outcomes), indent=2))
        return
    for place, outcome in enumerate(outcomes):
        if len(models) > 1 and asked.format == "text":
            click.echo(("\n" if place else "") + f"== {models[place]}")
        show_diagnostics(_diagnostics(outcome))
        if not isinstance(outcome, list):
            click.echo(_document(asked, outcome), nl=False)


def _document(asked: _Asked, planned: "Planned") -> str:
    if asked.traced is not None:
        from qcompile.cli.trace_view import trace_text
        from qcompile.driver.site_trace import site_trace

        return trace_text(site_trace(planned, asked.traced))
    if asked.format == "markdown":
        return plan_markdown(planned.plan, full=asked.full, limit=asked.limit)
    return plan_text(planned.plan, full=asked.full)


def _json(
    asked: _Asked, models: tuple[str, ...], outcomes: "list[Planned | list[Diagnostic]]"
) -> dict[str, Any]:
    """One plan in ``plan``; those of several models in ``plans``, each with its diagnostics."""
    everything = [item for one in outcomes for item in _diagnostics(one)]
    document = json_object(everything, command="plan")
    if len(models) <= 1:
        return document | _results(asked, outcomes[0])
    plans = [
        json_object(_diagnostics(one), model=name) | _results(asked, one)
        for name, one in zip(models, outcomes, strict=True)
    ]
    return document | {"plans": plans}


def _results(asked: _Asked, outcome: "Planned | list[Diagnostic]") -> dict[str, Any]:
    if isinstance(outcome, list):
        return {}
    if asked.traced is not None:
        from qcompile.driver.site_trace import site_trace

        return {"trace": site_trace(outcome, asked.traced).model_dump(mode="json")}
    return {"plan": outcome.plan.model_dump(mode="json")}
