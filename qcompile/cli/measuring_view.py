"""Progress of what is measured for `choose`: a bar on a terminal, one line elsewhere."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from qcompile.diagnostics.quantities import several

if TYPE_CHECKING:
    from qcompile.driver.choose import Progress as Told


@contextmanager
def measuring() -> "Generator[Told]":
    """The bar is there once something is measured; the terminal is put back whatever happens."""
    if not sys.stderr.isatty():
        yield one_line
        return
    columns = (TextColumn("measuring {task.description}"), BarColumn(), MofNCompleteColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task("", total=None)

    def tell(key: str, number: int, total: int) -> None:
        bar.start()
        bar.update(task, description=key, completed=number - 1, total=total)

    try:
        yield tell
    finally:
        bar.stop()


def one_line(key: str, number: int, total: int) -> None:
    """Where something else draws a bar, or nobody looks."""
    if number == 1:
        click.echo(f"measuring what `choose` costs at {several(total, 'layer')}", err=True)
