"""``qcompile verify``: an artifact against its own plan."""

import json
from pathlib import Path

import click

from qcompile.cli.console import finish, json_object, show_diagnostics
from qcompile.cli.options import json_option


@click.command("verify")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option(
    "--weights",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Safetensors of the float model: what nothing touched must have its bytes.",
)
@json_option
def command(artifact: Path, weights: tuple[Path, ...], as_json: bool) -> None:
    """Check hashes, every line of the plan, and sizes of ARTIFACT.

    The check shares no code with what wrote the artifact.
    """
    from qcompile.driver.load import plan_of, verify

    diagnostics = verify(artifact, weights)
    if as_json:
        click.echo(json.dumps(json_object(diagnostics, command="verify"), indent=2))
    else:
        show_diagnostics(diagnostics)
        if not diagnostics:
            core = plan_of(artifact).core
            tensors = sum(len(site.tensors) for site in core.sites)
            held = f"hashes, {tensors} planned tensors and all sizes hold"
            also = ", untouched tensors have the bytes of the weights" if weights else ""
            click.echo(f"{artifact}: {held}{also}")
    finish(diagnostics)
