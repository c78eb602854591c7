"""``qcompile verify``: an artifact against its own plan."""

import json
from pathlib import Path

import click

from qcompile.cli.console import finish, json_object, show_diagnostics
from qcompile.cli.options import json_option


@click.command("verify")
@click.argument("artifact", type=click.Path(path_type=Path))
@json_option
def command(artifact: Path, as_json: bool) -> None:
    """Check hashes, every planned tensor, and sizes of ARTIFACT."""
    from qcompile.driver.load import plan_of, verify

    diagnostics = verify(artifact)
    if as_json:
        click.echo(json.dumps(json_object(diagnostics, command="verify"), indent=2))
    else:
        show_diagnostics(diagnostics)
        if not diagnostics:
            core = plan_of(artifact).core
            tensors = sum(len(site.tensors) for site in core.sites)
            click.echo(f"{artifact}: hashes, {tensors} planned tensors and all sizes hold")
    finish(diagnostics)
