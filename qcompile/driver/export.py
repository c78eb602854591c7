"""An artifact written in another format."""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.failure import CompileError
from qcompile.emit.stored_artifact import StoredArtifact, read_artifact
from qcompile.interop.capability import Capability, capability_of
from qcompile.interop.export import exported
from qcompile.store.atomic import check_free, check_new_file, publish_files, write_file
from qcompile.store.disk import Disk


@dataclass(frozen=True, slots=True)
class Export:
    """What was written; ``bytes`` counts all files."""

    path: Path
    format: str
    bytes: int
    tensor_bytes: int
    """Of the artifact, to compare with."""
    notes: tuple[str, ...] = ()
    """What its reader can and cannot do with it."""


def export(directory: str | Path, to: str, output: str | Path, *, replace: bool = False) -> Export:
    """Write the artifact in ``directory`` to ``output`` in the format ``to``, whole or not at all.

    Raises ``CompileError``: QR290 for an unknown format, QR901 for an occupied output, QR550 to
    QR553 for what the format cannot hold, and all that ``load`` raises.
    """
    output = Path(output)
    capability = known(to)
    _stop_at(check_output(output, capability, replace))
    stored = read_artifact(Path(directory))
    if not isinstance(stored, StoredArtifact):
        raise CompileError(stored)
    return write_export(Disk(), stored, capability, output)


def write_export(
    disk: Disk, stored: StoredArtifact, capability: Capability, output: Path
) -> Export:
    """Write to ``output``, of which ``check_output`` found that it may be. Raises as ``export``."""
    made = exported(stored, capability, version("qcompile"))
    if isinstance(made, list):
        raise CompileError(made)
    match made.files:
        case bytes() as data:
            _stop_at(write_file(disk, output, data))
            size = len(data)
        case dict() as files:
            _stop_at(publish_files(disk, output, files))
            size = sum(map(len, files.values()))
    return Export(output, capability.name, size, stored.header.tensor_bytes, made.notes)


def known(name: str) -> Capability:
    found = capability_of(name)
    if isinstance(found, list):
        raise CompileError(found)
    return found


def check_output(output: Path, capability: Capability, replace: bool) -> list[Diagnostic]:
    """QR901. ``replace`` replaces files alone, no directory."""
    if capability.suffix:
        return check_new_file(output, replace)
    return check_free(output)


def _stop_at(problems: list[Diagnostic]) -> None:
    if problems:
        raise CompileError(problems)
