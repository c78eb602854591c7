"""``qcompile report``: how a run went, as text, as a comment, or as a page."""

import json
from pathlib import Path

import click

from qcompile.cli.console import json_object
from qcompile.cli.options import check_limit, json_option, limit_option
from qcompile.cli.text_table import INDENT, text_table
from qcompile.policy.core import Plan
from qcompile.report.layer_rows import HEADINGS, RIGHT_ALIGNED, layer_rows
from qcompile.report.plan_rows import summary, title
from qcompile.report.result_lines import result_lines
from qcompile.report.run_markdown import run_markdown
from qcompile.report.run_page import run_page
from qcompile.report.run_report import RunReport

FORMATS = ("text", "markdown", "html")


@click.command("report")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--format", "shown_as", type=click.Choice(FORMATS), default="text", show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write to a file.")
@click.option("--replace", is_flag=True, help="Replace a file that is already there.")
@limit_option
@json_option
def command(
    artifact: Path, shown_as: str, output: Path | None, replace: bool, limit: int, as_json: bool
) -> None:
    """Tell how the run of ARTIFACT went: errors and remarks of each layer, time, requirements.

    `markdown` fits into a comment on a pull request, `html` is one file without scripts.
    """
    if as_json and (output is not None or shown_as != "text"):
        raise click.UsageError("`--json` prints the report itself: it goes with no other form")
    check_limit(shown_as)
    if replace and output is None:
        raise click.BadParameter("there is no file to replace", param_hint="--replace")
    from qcompile.driver.run_account import account_of, save_account

    plan, report = account_of(artifact)
    if as_json:
        click.echo(
            json.dumps(json_object([], command="report", report=report.document()), indent=2)
        )
        return
    if shown_as == "markdown":
        text = run_markdown(plan, report, limit)
    else:
        text = run_page(plan, report) if shown_as == "html" else run_text(plan, report)
    if output is None:
        click.echo(text, nl=False)
    else:
        save_account(text, output, replace)
        click.echo(click.format_filename(output))


def run_text(plan: Plan, report: RunReport) -> str:
    rows = [row.cells for row in layer_rows(plan, report)]
    lines = [f"qcompile run  {title(plan.core)}", "", *text_table(HEADINGS, rows, RIGHT_ALIGNED)]
    told = (*summary(plan, finished=True), *result_lines(report))
    lines += ["", *(f"{INDENT}{line}" for line in told)]
    return "\n".join(lines) + "\n"
