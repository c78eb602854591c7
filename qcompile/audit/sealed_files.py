"""The files of an artifact, read once, each held to the hash that was written for it."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import cast

from qcompile.audit.findings import MalformedError, damaged, later_format, no_artifact
from qcompile.audit.strict_json import Json, canonical, field, sha256, table
from qcompile.diagnostics.diagnostic import Diagnostic

KIND = "qcompile-artifact"
MANIFEST, REPORT = "manifest.json", "report.json"
MODEL, GRAPH, PLAN = "model.safetensors", "graph.json", "plan.json"
FOLDERS = ("recipe", "pretrained")
MAJOR = 1
MAX_MANIFEST_BYTES = 64 << 20
MAX_TEXT_BYTES = 256 << 20
"""Of every file but the tensors'."""


@dataclass(frozen=True, slots=True)
class SealedFiles:
    model: bytes
    graph: dict[str, Json]
    plan: dict[str, Json]


def read(directory: Path) -> SealedFiles | list[Diagnostic]:
    """Everything that is sealed; with problems, all of them."""
    manifest = _manifest(directory)
    if isinstance(manifest, Diagnostic):
        return [manifest]
    found: dict[str, bytes] = {}
    problems: list[Diagnostic] = []
    for name, entry in sorted(cast("dict[str, dict[str, Json]]", manifest["files"]).items()):
        try:
            found[name] = _listed(directory, name, entry)
        except MalformedError as error:
            problems.append(damaged(name, str(error)))
    problems += _report(directory)
    if problems:
        return problems
    return _documents(manifest, found)


def _manifest(directory: Path) -> dict[str, Json] | Diagnostic:
    try:
        path = directory / MANIFEST
        if path.is_symlink():
            return damaged(MANIFEST, "is a link")
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            return no_artifact(directory.name, "its manifest is too large to be one")
        data = path.read_bytes()
    except OSError as error:
        return no_artifact(directory.name, (error.strerror or str(error)).lower())
    try:
        found = table(data)
        if found.get("kind") != KIND and "seal" not in found:
            return no_artifact(directory.name, "its manifest is of another program")
        _check_seal(found, data)
        _check_names(found)
    except MalformedError as error:
        return damaged(MANIFEST, str(error))
    return _too_new(MANIFEST, found) or found


def _check_seal(document: dict[str, Json], data: bytes) -> None:
    rest = {key: value for key, value in document.items() if key != "seal"}
    if document.get("seal") != sha256(canonical(rest)) or canonical(document) != data:
        raise MalformedError("was changed")


def _check_names(manifest: dict[str, Json]) -> None:
    files = field(manifest, "files", dict)
    for name in (MODEL, GRAPH, PLAN):
        if name not in files:
            raise MalformedError(f"does not list `{name}`")
    for name, entry in cast("dict[str, Json]", files).items():
        parts = PurePosixPath(name).parts
        inside = len(parts) > 1 and parts[0] in FOLDERS and ".." not in parts
        if name not in {MODEL, GRAPH, PLAN} and not inside:
            raise MalformedError(f"lists `{name}`")
        if not isinstance(entry, dict) or not isinstance(entry.get("size"), int):
            raise MalformedError(f"says nothing of `{name}`")


def _listed(directory: Path, name: str, entry: dict[str, Json]) -> bytes:
    """The bytes of a regular file that is reached without any link."""
    path = directory
    for part in PurePosixPath(name).parts:
        path = path / part
        if path.is_symlink():
            raise MalformedError("is a link")
    if not path.is_file():
        raise MalformedError("is missing")
    try:
        if name != MODEL:
            _check_size(path)
        if path.stat().st_size != entry["size"]:
            raise MalformedError(f"has not the {entry['size']} bytes it was written with")
        data = path.read_bytes()
    except OSError as error:
        raise MalformedError(f"cannot be read: {(error.strerror or '').lower()}") from None
    if sha256(data) != entry.get("sha256"):
        raise MalformedError("was changed")
    return data


def _check_size(path: Path) -> None:
    if path.stat().st_size > MAX_TEXT_BYTES:
        raise MalformedError(f"is larger than {MAX_TEXT_BYTES} bytes")


def _report(directory: Path) -> list[Diagnostic]:
    try:
        _check_size(directory / REPORT)
        data = (directory / REPORT).read_bytes()
        _check_seal(table(data), data)
    except OSError as error:
        return [damaged(REPORT, f"cannot be read: {(error.strerror or str(error)).lower()}")]
    except MalformedError as error:
        return [damaged(REPORT, str(error))]
    return []


def _documents(
    manifest: dict[str, Json], found: dict[str, bytes]
) -> SealedFiles | list[Diagnostic]:
    made: dict[str, dict[str, Json]] = {}
    for name in (GRAPH, PLAN):
        try:
            made[name] = table(found[name])
        except MalformedError as error:
            return [damaged(name, str(error))]
        too_new = _too_new(name, made[name])
        if too_new:
            return [too_new]
    plan = made[PLAN]
    core = sha256(canonical(plan.get("core")))
    parts = {"model": sha256(found[MODEL]), "graph": sha256(found[GRAPH]), "plan": core}
    if manifest.get("identity") != sha256(canonical(parts)):
        return [damaged(MANIFEST, "has the identity of another artifact")]
    if plan.get("core_sha256") != core:
        return [damaged(PLAN, "has the hash of another plan")]
    return SealedFiles(found[MODEL], made[GRAPH], plan)


def _too_new(name: str, document: dict[str, Json]) -> Diagnostic | None:
    version = document.get("format_version")
    major = str(version).partition(".")[0]
    if not major.isdecimal():
        return damaged(name, "states no format version")
    return later_format(name, str(version), MAJOR) if int(major[:9]) > MAJOR else None
