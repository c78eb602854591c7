"""``qcompile export``: an artifact in a format that others read."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from qcompile.diagnostics.quantities import human_bytes

if TYPE_CHECKING:
    from qcompile.driver.export import Export

SUFFIXES = {"pt2": ".pt2", "onnx": ".onnx", "gguf": ".gguf", "compressed-tensors": ""}
"""Formats, without loading torch to list them; a directory has no suffix."""


@click.command("export")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--to", "form", required=True, type=click.Choice(tuple(SUFFIXES)))
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="File or directory."
)
@click.option("--replace", is_flag=True, help="Replace a file that is already there.")
def command(artifact: Path, form: str, output: Path, replace: bool) -> None:
    """Write ARTIFACT in another format; what the format cannot hold is refused before that.

    `pt2` loads with torch alone, `onnx` holds integer weights behind Q/DQ nodes,
    `compressed-tensors` is a directory, `gguf` has blocks of 32.
    """
    suffix = SUFFIXES[form]
    if suffix and output.suffix != suffix:
        raise click.BadParameter(f"the name of this file ends in `{suffix}`", param_hint="--output")
    if replace and not suffix:
        raise click.BadParameter("a directory is not replaced", param_hint="--replace")
    from qcompile.driver.export import export

    done = export(artifact, form, output, replace=replace)
    click.echo(export_line(done))


def export_line(done: "Export") -> str:
    line = (
        f"{done.path}   {human_bytes(done.tensor_bytes)} of tensors as {human_bytes(done.bytes)} "
        f"of {done.format}"
    )
    return "\n".join([line, *(f"  {note}" for note in done.notes)])
