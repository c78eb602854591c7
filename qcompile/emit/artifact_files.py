"""What an artifact consists of: names of its files, its manifest, its seal, its identity."""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, Literal

from pydantic import Field

from qcompile.policy.core import PlanCore
from qcompile.policy.document import Frozen
from qcompile.policy.identity import core_sha256
from qcompile.store.atomic import MANIFEST
from qcompile.store.canonical import canonical_json, sha256_hex

ARTIFACT_FORMAT_VERSION = "1.0"
MODEL_FILE = "model.safetensors"
GRAPH_FILE = "graph.json"
PLAN_FILE = "plan.json"
REPORT_FILE = "report.json"
MANIFEST_FILE = MANIFEST
RECIPE_FOLDER = "recipe"
DESCRIPTION_FOLDER = "pretrained"
"""Config and tokenizer of a model that came as a folder; they are no part of the identity."""
FOLDERS: tuple[str, ...] = (RECIPE_FOLDER, DESCRIPTION_FOLDER)
REQUIRED_FILES: tuple[str, ...] = (GRAPH_FILE, MODEL_FILE, PLAN_FILE)
SEAL = "seal"
"""Key of the hash over everything else in a JSON file that no manifest covers."""


class FileEntry(Frozen):
    sha256: str
    size: int = Field(ge=0)


class Manifest(Frozen):
    kind: Literal["qcompile-artifact"] = "qcompile-artifact"
    format_version: str = ARTIFACT_FORMAT_VERSION
    identity: str
    """Hash over model, graph and plan core: equal for artifacts that compute the same."""
    files: dict[str, FileEntry]
    """Every reproducible file: all but ``report.json`` and this one."""


def sealed(document: dict[str, Any]) -> bytes:
    return canonical_json(document | {SEAL: _seal(document)})


def is_sealed(document: dict[str, Any], data: bytes) -> bool:
    """Tell whether ``data``, which reads as ``document``, is what ``sealed`` wrote, to the bit."""
    rest = {key: value for key, value in document.items() if key != SEAL}
    return document.get(SEAL) == _seal(rest) and canonical_json(document) == data


def artifact_identity(model_sha256: str, graph_sha256: str, core: PlanCore) -> str:
    parts = {"model": model_sha256, "graph": graph_sha256, "plan": core_sha256(core)}
    return sha256_hex(canonical_json(parts))


def file_entry(data: bytes) -> FileEntry:
    return FileEntry(sha256=sha256_hex(data), size=len(data))


def is_artifact_path(name: str) -> bool:
    """Tell whether a manifest may list ``name``: a known file, or one inside ``FOLDERS``."""
    path = PurePosixPath(name)
    if name in REQUIRED_FILES:
        return True
    plain = str(path) == name and ".." not in path.parts and name.isprintable()
    return plain and len(path.parts) > 1 and path.parts[0] in FOLDERS and "\\" not in name


def recipe_files(texts: dict[str, str]) -> dict[str, bytes]:
    """Place the closure of a recipe under ``recipe/``; a name from elsewhere gets a number."""
    files: dict[str, bytes] = {}
    for number, name in enumerate(sorted(texts)):
        path = f"{RECIPE_FOLDER}/{name}"
        if not is_artifact_path(path) or path in files:
            path = f"{RECIPE_FOLDER}/{number}-{PurePosixPath(name).name or 'recipe'}"
        files[path] = texts[name].encode("utf-8")
    return files


def description_files(description: Mapping[str, bytes]) -> dict[str, bytes]:
    return {f"{DESCRIPTION_FOLDER}/{name}": data for name, data in sorted(description.items())}


def _seal(rest: dict[str, Any]) -> str:
    return sha256_hex(canonical_json(rest))
