"""``qcompile resume``: go on with an unfinished run, given its directory."""

from pathlib import Path

import click

from qcompile.cli.options import device_option, threads_option, trust_option
from qcompile.cli.run_command import command as run_command


@click.command("resume")
@click.argument("state", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("-o", "--output", type=click.Path(path_type=Path))
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@device_option
@threads_option
@trust_option
@click.pass_context
def command(
    ctx: click.Context,
    state: Path,
    output: Path | None,
    quiet: bool,
    device: str,
    threads: int | None,
    trust: tuple[str, ...],
) -> None:
    """Go on with the run whose state is in STATE (a directory below `.qcompile/runs`)."""
    ctx.invoke(
        run_command,
        subject=state / "plan.json",
        output=output,
        quiet=quiet,
        work=state.parent,
        params={},
        device=device,
        threads=threads,
        trust=trust,
    )
