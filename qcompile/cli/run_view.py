"""Progress of a run: a bar on a terminal, a line a unit elsewhere, nothing when asked."""

import sys
from collections.abc import Generator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.driver.progress import Listener
from qcompile.driver.progress import Progress as Moment


@contextmanager
def shown(quiet: bool) -> Generator[Listener]:
    """A listener for ``run``; the terminal is put back whatever happens."""
    if quiet:
        yield lambda moment: None
    elif sys.stderr.isatty():
        with _bar() as listener:
            yield listener
    else:
        yield _lines()


def clock(seconds: float | None) -> str:
    if seconds is None:
        return "--:--"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def described(moment: Moment) -> str:
    """``layers.3 step 400, loss 0.31 of the start`` while something is learned."""
    if moment.step is None or moment.loss is None:
        return f"{moment.unit}: {moment.site}"
    return f"{moment.site} step {moment.step}, loss {moment.loss:.3f} of the start"


def goes_on(why: Diagnostic) -> None:
    """The run begins again with another plan; why is shown in full when all is over."""
    found = "" if why.primary is None else f" ({why.primary.text})"
    click.echo(f"{why.message}{found}", err=True)


@contextmanager
def _bar() -> Generator[Listener]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[clock]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None, clock="")

        def listen(moment: Moment) -> None:
            bar.update(
                task,
                description=described(moment),
                completed=moment.done,
                total=moment.total,
                clock=f"{clock(moment.seconds)} ETA {clock(moment.eta)}",
            )

        yield listen


def _lines() -> Listener:
    told = ("", -1)

    def listen(moment: Moment) -> None:
        nonlocal told
        unit, done = told
        told = (moment.unit, moment.done)
        if moment.unit == unit and moment.done >= done:  # less: it begins again, falling back
            return
        click.echo(
            f"[{moment.done:>4}/{moment.total}] {moment.unit}   {clock(moment.seconds)} "
            f"ETA {clock(moment.eta)}",
            err=True,
        )

    return listen
