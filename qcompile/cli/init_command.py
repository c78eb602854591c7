"""``qcompile init``: a first recipe for a model."""

from pathlib import Path

import click

from qcompile.cli.console import finish, show_diagnostics
from qcompile.cli.options import trust_option


@click.command("init")
@click.argument("model")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The recipe; otherwise named after MODEL, in this folder.",
)
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="SHAPE",
    help="What MODEL takes: `float32[batch, 3, 32, 32]`, or `NAME=int64[batch, seq]` of each.",
)
@click.option("--force", "--replace", "replace", is_flag=True, help="Replace a file.")
@trust_option
def command(
    model: str,
    output: Path | None,
    inputs: tuple[str, ...],
    replace: bool,
    trust: tuple[str, ...],
) -> None:
    """Write a first recipe for MODEL, as a recipe would name it: `zoo:`, `hf:`, `module:function`.

    The policy is chosen by what the model consists of. No weights are read; what a preview of the
    plan has to say is shown.
    """
    if len(inputs) > 1 and not all("=" in item for item in inputs):
        raise click.BadParameter("several inputs need names: `NAME=...`", param_hint="--input")
    from qcompile.driver.init import init

    done = init(model, output, inputs=inputs, trusted=frozenset(trust), replace=replace)
    show_diagnostics(done.diagnostics)
    click.echo(f"{done.path}   {done.start.library}.{done.start.policy}: {done.start.because}")
    finish(done.diagnostics)
