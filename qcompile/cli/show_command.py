"""``qcompile show``: a saved plan, or what is in an artifact."""

import json
from pathlib import Path

import click

from qcompile.cli.options import json_option
from qcompile.cli.plan_view import plan_text


@click.command("show")
@click.argument("subject", type=click.Path(path_type=Path))
@click.option("--full", is_flag=True, help="Do not fold equal blocks.")
@json_option
def command(subject: Path, full: bool, as_json: bool) -> None:
    """Show SUBJECT, a saved plan or an artifact directory, without its model or data."""
    from qcompile.driver.load import plan_of, report_of
    from qcompile.driver.saved_plan import read_plan

    is_artifact = subject.is_dir()
    plan = plan_of(subject) if is_artifact else read_plan(subject)
    report = report_of(subject) if is_artifact else None
    if as_json:
        told = None if report is None else report.document()
        document = {"plan": plan.model_dump(mode="json"), "report": told}
        click.echo(json.dumps(document, indent=2))
        return
    click.echo(plan_text(plan, full=full), nl=False)
    if report is not None:
        click.echo(f"\n  {'unit':<24} relative output error")
        for unit in report.units:
            error = unit.output_error
            click.echo(f"  {unit.unit:<24} {'-' if error is None else f'{error:.3e}'}")
