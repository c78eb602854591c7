"""``qcompile resume``: go on with an unfinished run, given its directory."""

from pathlib import Path

import click

from qcompile.cli.options import trust_option, usable_device
from qcompile.cli.run_command import command as run_command


@click.command("resume")
@click.argument("state", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Instead of where it was to go."
)
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.option("--device", callback=usable_device, help="Default: as when the run was started.")
@click.option("--threads", type=click.IntRange(min=1), help="Default: as when it was started.")
@trust_option
@click.pass_context
def command(
    ctx: click.Context,
    state: Path,
    output: Path | None,
    quiet: bool,
    device: str | None,
    threads: int | None,
    trust: tuple[str, ...],
) -> None:
    """Go on with the run whose state is in STATE (a directory below `.qcompile/runs`)."""
    from qcompile.driver.intent import read_intent
    from qcompile.driver.run_directory import SAVED_PLAN

    intent = read_intent(state)
    ctx.invoke(
        run_command,
        subject=state / SAVED_PLAN,
        output=output or Path(intent.output),
        replace=intent.replace,
        quiet=quiet,
        work=state.parent,
        params={},
        device=device or intent.device,
        threads=threads or intent.threads,
        trust=trust,
    )
