"""``qcompile run``: execute a plan and write the artifact."""

from pathlib import Path

import click

from qcompile.cli.console import finish, show_diagnostics
from qcompile.cli.exit_codes import ExitCode
from qcompile.cli.export_command import export_line
from qcompile.cli.measuring_view import one_line
from qcompile.cli.options import (
    device_option,
    param_option,
    threads_option,
    trust_option,
    work_directory_option,
)
from qcompile.cli.run_view import clock, goes_on, shown
from qcompile.cli.stop_signal import stop_requests
from qcompile.diagnostics.quantities import human_bytes


@click.command("run")
@click.argument("subject", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Default: `output` of the recipe."
)
@click.option(
    "--replace", is_flag=True, help="Replace an artifact, exported files and reports already there."
)
@click.option("--fresh", is_flag=True, help="Forget the saved state of an unfinished run.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@param_option
@work_directory_option
@device_option
@threads_option
@trust_option
def command(
    subject: Path,
    output: Path | None,
    replace: bool,
    fresh: bool,
    quiet: bool,
    params: dict[str, str],
    work: Path,
    device: str,
    threads: int | None,
    trust: tuple[str, ...],
) -> None:
    """Run SUBJECT, a saved plan or a recipe; a saved plan is refused when anything has changed.

    An unfinished run of the same plan is continued; its artifact is the same to the byte.
    """
    from qcompile.driver.choose import unheard
    from qcompile.driver.progress import StopRequestedError
    from qcompile.driver.run import run_subject
    from qcompile.driver.run_options import RunOptions, untold

    with stop_requests() as should_stop, shown(quiet) as listener:
        options = RunOptions(
            work=work,
            device=device,
            threads=threads,
            replace=replace,
            fresh=fresh,
            listener=listener,
            measuring=unheard if quiet else one_line,
            falling_back=untold if quiet else goes_on,
            should_stop=should_stop,
        )
        try:
            done = run_subject(subject, output, options, trusted=frozenset(trust), params=params)
        except StopRequestedError:
            click.echo("stopped at a safe point; the same command continues it", err=True)
            raise click.exceptions.Exit(ExitCode.STOPPED) from None
    show_diagnostics(done.diagnostics)
    core = done.plan.core
    click.echo(
        f"{done.output}   {human_bytes(core.bytes_before)} -> {human_bytes(core.bytes_after)} "
        f"of tensors, {clock(done.seconds)}, identity {done.identity[:12]}"
    )
    for export in done.exports:
        click.echo(export_line(export))
    for report in done.reports:
        click.echo(click.format_filename(report))
    finish(done.diagnostics)
