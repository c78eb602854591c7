"""A plan as a file, and what is taken of it when it is made again."""

import json
import os
from pathlib import Path

from pydantic import ValidationError

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.failure import CompileError
from qcompile.emit.format_version import check_version
from qcompile.policy.core import PLAN_FORMAT_VERSION, Plan, PlanCore
from qcompile.policy.fallback import fallbacks, with_fallback
from qcompile.policy.identity import core_sha256
from qcompile.policy.parameters import argument
from qcompile.policy.recipe import Recipe
from qcompile.policy.rungs import Rungs
from qcompile.store.atomic import write_file
from qcompile.store.canonical import canonical_json
from qcompile.store.disk import Disk


def as_saved(recipe: Recipe, saved: Plan | None) -> Recipe:
    """What ``recipe`` had fallen back to when ``saved`` was made of it, it falls back to."""
    scheme = None if saved is None else saved.core.fallback
    if scheme is None or scheme not in fallbacks(recipe):
        return recipe
    return with_fallback(recipe, scheme)


def saved_rungs(core: PlanCore) -> Rungs:
    """What was chosen, if anything was."""
    return Rungs({site.key: site.scheme for site in core.sites if site.scheme is not None})


def saved_params(core: PlanCore) -> dict[str, str]:
    """The parameters of a plan, as they would be given to make it again."""
    return {item.name: argument(item.value) for item in core.params}


def save_plan(made: Plan, path: Path) -> None:
    """Write canonical JSON, atomically. Raises ``CompileError`` (QR905) when that fails."""
    save_document(path, canonical_json(made.model_dump()))


def save_document(path: Path, data: bytes) -> None:
    """Write what a command was asked to write. Raises ``CompileError`` (QR905)."""
    problems = write_file(Disk(), Path(os.path.abspath(path)), data)
    if problems:
        raise CompileError(problems)


def read_plan(path: Path) -> Plan:
    """A saved plan; its own hash is checked. Raises ``CompileError`` (QR709, QR908)."""
    try:
        return parse_plan(path, path.read_bytes())
    except OSError as error:
        raise CompileError([unreadable(path, (error.strerror or str(error)).lower())]) from None


def parse_plan(path: Path, data: bytes) -> Plan:
    """The same of bytes that are at hand; ``path`` is what they are called."""
    try:
        document: object = json.loads(data)
    except (ValueError, RecursionError):
        raise CompileError([unreadable(path, "it is not JSON")]) from None
    newer = check_version(path.name, document, PLAN_FORMAT_VERSION)
    if newer:
        raise CompileError(newer)
    try:
        made = Plan.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the document"
        raise CompileError([unreadable(path, f"{place}: {first['msg'].lower()}")]) from None
    if core_sha256(made.core) != made.core_sha256:
        raise CompileError([unreadable(path, "its core was edited: the hash does not fit")])
    return made


def unreadable(path: Path, why: str) -> Diagnostic:
    """QR709."""
    return Diagnostic(
        Code.UNREADABLE_PLAN,
        f"`{path.name}` is not a plan: {why}",
        subject=str(path),
        help="make it again with `qcompile plan RECIPE -o FILE`",
    )
