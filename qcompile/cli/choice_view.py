"""What a budget chooses from: progress of the measurement, and its outcome as text."""

import sys
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from qcompile.diagnostics.quantities import human_bytes, several
from qcompile.policy.choice import ChoicePlan, GroupPlan

if TYPE_CHECKING:
    from qcompile.driver.choose import Progress


@contextmanager
def measuring() -> "Generator[Progress]":
    """A bar on a terminal, which is put back whatever happens; one line elsewhere."""
    if sys.stderr.isatty():
        columns = (TextColumn("measuring {task.description}"), BarColumn(), MofNCompleteColumn())
        with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("", total=None, visible=False)
            yield lambda key, number, total: bar.update(
                task, description=key, completed=number - 1, total=total, visible=True
            )
    else:
        yield one_line


def one_line(key: str, number: int, total: int) -> None:
    """Where something else draws a bar, or nobody looks."""
    if number == 1:
        click.echo(f"measuring what `choose` costs at {several(total, 'layer')}", err=True)


def choice_line(choice: ChoicePlan) -> str:
    """``chosen for 20 layers: loss increase 0.00113, the least within the budget``."""
    layers = sum(len(group.sites) for group in choice.groups)
    proved = (
        "the least within the budget"
        if choice.bound >= choice.loss_increase
        else f"at least {choice.bound:.3g} within the budget"
    )
    return (
        f"chosen for {several(layers, 'layer')}: loss increase {choice.loss_increase:.3g}, {proved}"
        f" (measured one by one on {several(choice.samples, 'sample')})"
    )


def rung_lines(group: GroupPlan) -> Iterable[str]:
    """The candidates of one layer, or of all that stand on one rung."""
    others = f" together with {', '.join(group.sites[1:])}" if len(group.sites) > 1 else ""
    yield f"what the budget chooses from{others}: * taken"
    names = [rung.scheme for rung in group.rungs]
    sizes = [human_bytes(rung.bytes) for rung in group.rungs]
    widths = [max(map(len, column)) for column in (names, sizes)]
    for place, (rung, size) in enumerate(zip(group.rungs, sizes, strict=True)):
        mark = "*" if place == group.taken else " "
        yield (
            f"{mark} {rung.scheme:<{widths[0]}}  {size:>{widths[1]}}"
            f"  loss increase {rung.loss_increase:.3g}"
        )
