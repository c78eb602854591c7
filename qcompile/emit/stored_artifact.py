"""An artifact read back: nothing of it is used before its hashes are checked."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, cast

from pydantic import ValidationError

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, has_errors
from qcompile.emit.artifact_files import (
    ARTIFACT_FORMAT_VERSION,
    DESCRIPTION_FOLDER,
    GRAPH_FILE,
    MANIFEST_FILE,
    MODEL_FILE,
    PLAN_FILE,
    REQUIRED_FILES,
    SEAL,
    FileEntry,
    Manifest,
    artifact_identity,
    is_artifact_path,
    is_sealed,
)
from qcompile.emit.format_version import check_version
from qcompile.emit.graph_document import GraphDocument, read_graph
from qcompile.policy.core import PLAN_FORMAT_VERSION, Plan
from qcompile.policy.identity import core_sha256
from qcompile.store.atomic import ARTIFACT_KIND, MAX_MANIFEST_BYTES
from qcompile.store.canonical import sha256_hex
from qcompile.store.safetensors_header import Header, parse_header

_DESCRIPTION = f"{DESCRIPTION_FOLDER}/"
MAX_TEXT_BYTES = 256 << 20
"""Of every file but the tensors': what is parsed takes several times as much."""


@dataclass(frozen=True, slots=True)
class StoredArtifact:
    """The parsed files; ``model`` are the very bytes that were hashed."""

    manifest: Manifest
    plan: Plan
    graph: GraphDocument
    model: bytes
    header: Header
    description: Mapping[str, bytes]
    """Files that came with the model, by name: its config and tokenizer, where it had some."""


def read_artifact(directory: Path) -> StoredArtifact | list[Diagnostic]:
    """Read and check all reproducible files; ``report.json`` is not looked at."""
    manifest = read_manifest(directory)
    if not isinstance(manifest, Manifest):
        return manifest
    files: dict[str, bytes] = {}
    problems: list[Diagnostic] = []
    for name, entry in sorted(manifest.files.items()):
        data = _checked(directory, name, entry)
        if isinstance(data, bytes):
            files[name] = data
        else:
            problems.append(data)
    if problems:
        return problems
    return _parsed(manifest, files)


def read_manifest(directory: Path) -> Manifest | list[Diagnostic]:
    """QR903: there is no artifact; QR902: there was one; QR908: it is from a later program."""
    path = directory / MANIFEST_FILE
    try:
        if path.is_symlink():
            return [corrupt(MANIFEST_FILE, "is a link")]
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            return [not_an_artifact(directory, "its manifest is too large to be one")]
        data = path.read_bytes()
    except OSError as error:
        return [not_an_artifact(directory, (error.strerror or str(error)).lower())]
    try:
        raw: object = json.loads(data)
    except (ValueError, RecursionError):
        return [corrupt(MANIFEST_FILE, "is not JSON")]
    document = cast("dict[str, Any]", raw) if isinstance(raw, dict) else {}
    if document.get("kind") != ARTIFACT_KIND and SEAL not in document:
        return [not_an_artifact(directory, "its manifest is of another program")]
    try:
        if not is_sealed(document, data):
            return [corrupt(MANIFEST_FILE, "was changed")]
        newer = check_version(MANIFEST_FILE, document, ARTIFACT_FORMAT_VERSION)
        if newer:
            return newer
        del document[SEAL]
        manifest = Manifest.model_validate(document)
    except (ValueError, ValidationError):
        return [corrupt(MANIFEST_FILE, "is not a manifest")]
    return _with_plain_names(manifest)


def _with_plain_names(manifest: Manifest) -> Manifest | list[Diagnostic]:
    missing = [name for name in REQUIRED_FILES if name not in manifest.files]
    strange = [name for name in manifest.files if not is_artifact_path(name)]
    problems = [corrupt(MANIFEST_FILE, f"does not list `{name}`") for name in missing]
    problems += [corrupt(MANIFEST_FILE, f"lists `{name}`") for name in strange]
    return problems or manifest


def _checked(directory: Path, name: str, entry: FileEntry) -> bytes | Diagnostic:
    path = directory / name
    inside = path.parents[: len(PurePosixPath(name).parents) - 1]
    try:
        if any(place.is_symlink() for place in (path, *inside)):
            return corrupt(name, "is a link, or lies behind one")
        if not path.is_file():
            return corrupt(name, "is missing")
        if name != MODEL_FILE and path.stat().st_size > MAX_TEXT_BYTES:
            return corrupt(name, f"is larger than {MAX_TEXT_BYTES} bytes")
        if path.stat().st_size != entry.size:
            return corrupt(name, f"has not the {entry.size} bytes it was written with")
        data = path.read_bytes()
    except OSError as error:
        return corrupt(name, f"cannot be read: {(error.strerror or str(error)).lower()}")
    if sha256_hex(data) != entry.sha256:
        return corrupt(name, "was changed")
    return data


def _parsed(manifest: Manifest, files: dict[str, bytes]) -> StoredArtifact | list[Diagnostic]:
    plan = read_plan(files[PLAN_FILE])
    graph = read_graph(files[GRAPH_FILE])
    header = parse_header(files[MODEL_FILE])
    problems = [
        *(plan if isinstance(plan, list) else ()),
        *(graph if isinstance(graph, list) else ()),
    ]
    if isinstance(header, str):
        problems.append(corrupt(MODEL_FILE, header))
    if has_errors(problems):
        return problems
    stored = StoredArtifact(
        manifest,
        cast("Plan", plan),
        cast("GraphDocument", graph),
        files[MODEL_FILE],
        cast("Header", header),
        {
            name.removeprefix(_DESCRIPTION): data
            for name, data in files.items()
            if name.startswith(_DESCRIPTION)
        },
    )
    return _check_identity(stored) or stored


def _check_identity(stored: StoredArtifact) -> list[Diagnostic]:
    entries = stored.manifest.files
    identity = artifact_identity(
        entries[MODEL_FILE].sha256, entries[GRAPH_FILE].sha256, stored.plan.core
    )
    if stored.manifest.identity != identity:
        return [corrupt(MANIFEST_FILE, "has the identity of another artifact")]
    if stored.plan.core_sha256 != core_sha256(stored.plan.core):
        return [corrupt(PLAN_FILE, "has the hash of another plan")]
    return []


def read_plan(data: bytes) -> Plan | list[Diagnostic]:
    try:
        raw: object = json.loads(data)
        newer = check_version(PLAN_FILE, raw, PLAN_FORMAT_VERSION)
        return newer or Plan.model_validate_json(data)
    except (ValueError, RecursionError, ValidationError):
        return [corrupt(PLAN_FILE, "is not a plan")]


def corrupt(name: str, why: str) -> Diagnostic:
    """QR902."""
    return Diagnostic(
        Code.CORRUPT_ARTIFACT,
        f"`{name}` {why}",
        subject=name,
        help="get the artifact again, or run its plan again",
    )


def not_an_artifact(directory: Path, why: str) -> Diagnostic:
    """QR903."""
    return Diagnostic(
        Code.NOT_AN_ARTIFACT,
        f"`{directory.name}` is not an artifact: {why}",
        subject=str(directory),
        help=f"name a directory with a `{MANIFEST_FILE}` that `qcompile run` wrote",
    )
