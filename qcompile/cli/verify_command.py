"""``qcompile verify``: an artifact against its own plan."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from qcompile.cli.console import finish, json_object, show_diagnostics
from qcompile.cli.options import json_option, target_option


@click.command("verify")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option(
    "--weights",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Safetensors of the float model: what nothing touched must have its bytes.",
)
@target_option
@json_option
def command(artifact: Path, weights: tuple[Path, ...], target: str | None, as_json: bool) -> None:
    """Check hashes, every line of the plan, integer sums, and sizes of ARTIFACT.

    The check shares no code with what wrote the artifact. With --target also that its kernels
    compute what the simulation computes.
    """
    from qcompile.audit.audit import sums_of
    from qcompile.cli.lowering_view import lowering_json, lowering_text
    from qcompile.driver.load import lowering, plan_of, verify

    diagnostics = verify(artifact, weights)
    lowered = None if target is None or diagnostics else lowering(artifact, target)
    sums = () if diagnostics else sums_of(artifact)
    if as_json:
        more: dict[str, object] = {
            "integer_sums": [asdict(one) | {"bits": one.bits} for one in sums]
        }
        if lowered is not None:
            more["lowering"] = lowering_json(lowered.report)
        click.echo(json.dumps(json_object(diagnostics, command="verify", **more), indent=2))
    else:
        show_diagnostics(diagnostics)
        if not diagnostics:
            core = plan_of(artifact).core
            tensors = sum(len(site.tensors) for site in core.sites)
            held = f"hashes, {tensors} planned tensors and all sizes hold"
            also = ", untouched tensors have the bytes of the weights" if weights else ""
            click.echo(f"{artifact}: {held}{also}")
        if sums:
            widest = max(one.bits for one in sums)
            click.echo(f"integer sums of {len(sums)} layers fit {widest} bits for any input")
        if lowered is not None:
            click.echo(lowering_text(lowered.report), nl=False)
    finish(diagnostics)
