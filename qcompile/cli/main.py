"""``qcompile``: the commands, each loaded only when it is called."""

import os
import sys
import tempfile
import traceback
from importlib import import_module
from typing import Any

import click

from qcompile.cli.console import show_failure
from qcompile.cli.exit_codes import ExitCode, exit_code
from qcompile.diagnostics.failure import CompileError

COMMANDS = (
    "init",
    "check",
    "fmt",
    "explain",
    "select",
    "plan",
    "show",
    "diff",
    "run",
    "resume",
    "report",
    "eval",
    "verify",
    "export",
    "demo",
    "test",
)
"""Each has a file of its own, ``<name>_command.py``, with the command called ``command``."""


class Commands(click.Group):
    """A group that imports a command's file on use, so that ``check`` never waits for torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"qcompile.cli.{cmd_name}_command")
        return module.command

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's own signature
        try:
            return super().invoke(ctx)
        except CompileError as error:
            show_failure(ctx, error.diagnostics)
            raise click.exceptions.Exit(exit_code(error.diagnostics)) from None
        except BrokenPipeError:
            # the reader of our output has left (`| head`): nobody is there to be told
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise click.exceptions.Exit(ExitCode.OK) from None
        except KeyboardInterrupt:
            raise click.exceptions.Exit(ExitCode.INTERRUPTED) from None
        except (click.exceptions.Exit, click.Abort, click.ClickException):
            raise
        except Exception as error:
            raise click.exceptions.Exit(_report_bug(error)) from None


def _report_bug(error: Exception) -> ExitCode:
    with tempfile.NamedTemporaryFile(
        "w", prefix="qcompile-bug-", suffix=".txt", delete=False
    ) as report:
        traceback.print_exception(error, file=report)
    click.echo(
        f"internal error: {type(error).__name__}: {error}\n"
        f"This is a bug in qcompile, not in your recipe. The details are in {report.name}",
        err=True,
    )
    return ExitCode.BUG


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="qcompile", message="%(prog)s %(version)s")
def main() -> None:
    """Quantization as policy: check a recipe, see its plan, run it."""
