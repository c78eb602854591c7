"""``qcompile eval``: measure an artifact."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from qcompile.cli.options import device_option, json_option, target_option, trust_option


@click.command("eval")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--data", help="Instead of the data of the recipe.")
@click.option("--metric", "metrics", multiple=True, help="Instead of the metrics of the recipe.")
@click.option("--batch", type=click.IntRange(min=1))
@click.option("--seq-len", type=click.IntRange(min=1), help="The most token ids of a sample.")
@click.option("--mask", metavar="NAME", help="The tensor of a batch that tells padding.")
@click.option("--float", "with_float", is_flag=True, help="Measure the float model beside it.")
@target_option
@json_option
@device_option
@trust_option
def command(
    artifact: Path,
    data: str | None,
    metrics: tuple[str, ...],
    batch: int | None,
    seq_len: int | None,
    mask: str | None,
    with_float: bool,
    target: str | None,
    as_json: bool,
    device: str,
    trust: tuple[str, ...],
) -> None:
    """Measure ARTIFACT by the `evaluate` blocks of its recipe, or by --data and --metric."""
    if target is not None and device != "cpu":
        raise click.UsageError("--target says where it runs: it excludes --device")
    from qcompile.cli.lowering_view import lowering_json, lowering_text
    from qcompile.driver.evaluate import compare
    from qcompile.driver.load import lowering

    lowered = None if target is None else lowering(artifact, target)
    rows = compare(
        artifact,
        metrics=list(metrics) or None,
        data=data,
        batch=batch,
        seq_len=seq_len,
        mask=mask,
        with_float=with_float,
        lowered=lowered,
        trusted=frozenset(trust),
        device=device,
    )
    if as_json:
        results = [asdict(row) for row in rows]
        document: dict[str, Any] = {"command": "eval", "results": results}
        if lowered is not None:
            document["lowering"] = lowering_json(lowered.report)
        click.echo(json.dumps(document, indent=2))
        return
    if lowered is not None:
        click.echo(lowering_text(lowered.report), nl=False)
    if not rows:
        click.echo("the recipe has no `evaluate` block; say --data and --metric")
        return
    for row in rows:
        beside = "" if row.reference_value is None else f"   float {row.reference_value:.4f}"
        click.echo(f"{row.metric:<12} {row.value:.4f}{beside}   {row.data}, {row.samples} samples")
