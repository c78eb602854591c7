"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click
from click.core import ParameterSource

from qcompile.cli.console import promise_json
from qcompile.report.markdown_table import LEAST, LIMIT

Command = TypeVar("Command", bound=Callable[..., object])


def trust_option(command: Command) -> Command:
    return click.option(
        "--trust",
        multiple=True,
        metavar="PACKAGE",
        help="Allow factories of an installed PACKAGE; code of the project is always allowed.",
    )(command)


def _assignments(
    ctx: click.Context, option: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in values:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise click.BadParameter(f"{text!r} is not NAME=VALUE", ctx, option)
        found[name] = value
    return found


def param_option(command: Command) -> Command:
    return click.option(
        "--param",
        "params",
        multiple=True,
        metavar="NAME=VALUE",
        callback=_assignments,
        help="Value of a `param` of the recipe, or LIBRARY.NAME=VALUE for one of an import.",
    )(command)


def policy_option(command: Command) -> Command:
    return click.option(
        "--policy",
        "packs",
        multiple=True,
        metavar="FILE",
        help="Hold the plan to the `expect` lines of FILE too, or of `std:edge`.",
    )(command)


def json_option(command: Command) -> Command:
    return click.option(
        "--json",
        "as_json",
        is_flag=True,
        is_eager=True,
        callback=_json_promised,
        help="One JSON object on stdout, also when the command fails.",
    )(command)


def _json_promised(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
    if value:
        promise_json(ctx)
    return value


def limit_option(command: Command) -> Command:
    return click.option(
        "--limit",
        type=click.IntRange(min=LEAST),
        default=LIMIT,
        show_default=True,
        help="Bytes of markdown.",
    )(command)


def check_limit(shown_as: str) -> None:
    """Raise ``UsageError`` where a limit was given for another form than markdown."""
    given = click.get_current_context().get_parameter_source("limit")
    if given is ParameterSource.COMMANDLINE and shown_as != "markdown":
        raise click.BadParameter("only `--format markdown` has one", param_hint="--limit")


def target_option(command: Command) -> Command:
    return click.option(
        "--target",
        metavar="NAME",
        help="Compute with the kernels of a target, as `x86-int8`, or of a file `*.json`.",
    )(command)


def device_option(command: Command) -> Command:
    return click.option(
        "--device",
        default="cpu",
        show_default=True,
        callback=usable_device,
        help="A torch device: cpu, cuda, cuda:1.",
    )(command)


def usable_device(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value in ("cpu", None):
        return value
    import torch

    try:
        torch.zeros(1, device=value)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise click.BadParameter(f"`{value}` cannot be used here: {reason}") from None
    return value


def threads_option(command: Command) -> Command:
    return click.option(
        "--threads", type=click.IntRange(min=1), help="Threads of torch (part of the run identity)."
    )(command)


def work_directory_option(command: Command) -> Command:
    return click.option(
        "--work",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path(".qcompile/runs"),
        show_default=True,
        help="Where unfinished runs are kept.",
    )(command)
