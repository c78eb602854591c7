"""``qcompile demo``: the whole compiler on models and images that ship with it."""

import platform
import tempfile
import time
from pathlib import Path

import click

from qcompile.diagnostics.quantities import human_bytes


@click.command("demo")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Keep the artifacts in this folder."
)
def command(output: Path | None) -> None:
    """Quantize two real models, reload each artifact in a new process, measure it."""
    import torch

    from qcompile import __version__
    from qcompile.driver.demo import Row, demo

    click.echo(
        f"qcompile {__version__}, torch {torch.__version__}, Python {platform.python_version()}, "
        f"{torch.get_num_threads()} threads, seed 1\n"
        "recipe -> checked plan -> run -> packed artifact -> reloaded in a new process -> images\n"
    )
    start = time.monotonic()
    models: set[str] = set()

    def show(row: Row) -> None:
        if row.model not in models:
            models.add(row.model)
            click.echo(f"{row.model}, {row.samples} test images of Fashion-MNIST")
            click.echo(
                f"  {'recipe':<24} {'top-1':>7}  {'agreement':>9}  {'tensors':>9}  {'run':>6}"
            )
            click.echo(
                f"  {'float':<24} {row.float_top1:>7.2%}  {1:>9.2%}  "
                f"{human_bytes(row.bytes_before):>9}"
            )
        click.echo(
            f"  {row.recipe:<24} {row.top1:>7.2%}  {row.agreement:>9.2%}  "
            f"{human_bytes(row.bytes_after):>9}  {row.seconds:>5.1f}s"
        )

    if output is not None:
        demo(output, show)
    else:
        with tempfile.TemporaryDirectory(prefix="qcompile-demo-") as folder:
            demo(Path(folder), show)
    click.echo(f"\ndone in {time.monotonic() - start:.0f} s")
