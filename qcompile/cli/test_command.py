"""``qcompile test``: run ``.qtest`` files, which say what a recipe must do."""

import time
from pathlib import Path

import click

from qcompile.cli.console import show_diagnostics
from qcompile.cli.exit_codes import ExitCode
from qcompile.cli.options import trust_option


@click.command("test")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path, exists=True))
@trust_option
def command(paths: tuple[Path, ...], trust: tuple[str, ...]) -> None:
    """Run the tests in PATHS: files, or folders with `*.qtest` files (here, if none is given)."""
    # torch loads here: a test looks at the graph of the model
    from qcompile.driver.recipe_test import find_tests, run_test

    began = time.monotonic()
    tests = find_tests(list(paths) or [Path()])
    if not tests:
        raise click.UsageError("there is no `*.qtest` file here")
    passed = failed = 0
    for path in tests:
        outcome = run_test(path, frozenset(trust))
        passed, failed = passed + outcome.passed, failed + len(outcome.failures)
        word = "FAILED" if outcome.failures else "ok"
        click.echo(f"{word:<6}  {path}   {outcome.passed} passed")
        show_diagnostics(outcome.failures)
    click.echo(f"{passed} passed, {failed} failed in {time.monotonic() - began:.1f} s")
    if failed:
        raise click.exceptions.Exit(ExitCode.PROBLEMS)
