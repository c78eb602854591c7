"""How a run was asked for, kept beside its state so that ``resume`` does as it was told then."""

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.failure import CompileError
from qcompile.store.atomic import write_file
from qcompile.store.canonical import canonical_json
from qcompile.store.disk import Disk

INTENT_FILE = "intent.json"


class Intent(BaseModel):
    """What no plan says. ``output`` is absolute: a run may be resumed from another folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: str = "1.0"
    output: str
    replace: bool
    device: str
    threads: int | None


def save_intent(
    disk: Disk, directory: Path, output: Path, replace: bool, device: str, threads: int | None
) -> list[Diagnostic]:
    intent = Intent(output=os.path.abspath(output), replace=replace, device=device, threads=threads)
    path = Path(os.path.abspath(directory)) / INTENT_FILE
    return write_file(disk, path, canonical_json(intent.model_dump()))


def read_intent(directory: Path) -> Intent:
    """Of the unfinished run in ``directory``. Raises ``CompileError`` (QR907)."""
    path = directory / INTENT_FILE
    try:
        return Intent.model_validate_json(path.read_bytes())
    except OSError as error:
        raise CompileError([no_intent(path, (error.strerror or str(error)).lower())]) from None
    except ValidationError as error:
        raise CompileError([no_intent(path, error.errors()[0]["msg"].lower())]) from None


def no_intent(path: Path, why: str) -> Diagnostic:
    """QR907: the folder holds no unfinished run, or what says how it was started is damaged."""
    return Diagnostic(
        Code.CORRUPT_RUN_STATE,
        f"`{path.name}` of an unfinished run cannot be read: {why}",
        subject=str(path),
        help="name a directory below `.qcompile/runs`, or repeat the `run` command: it continues",
    )
