"""The manifest of a run as it lies on the disk."""

import json
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from qcompile.store.atomic import MAX_MANIFEST_BYTES
from qcompile.store.canonical import canonical_json, sha256_hex

RUN_FORMAT_VERSION = "1.0"
SEAL = "seal"
"""Key of the hash over the rest: a flipped bit may leave JSON that reads well."""
SHOWN_DIGITS = 8


class _OnDisk(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Payload(_OnDisk):
    file: str = Field(pattern=r"^[0-9]{3,}-[0-9a-f]{8}\.(safetensors|chain)$")
    size: int = Field(ge=0)
    sha256: str

    @classmethod
    def of(cls, number: int, suffix: str, data: bytes) -> "Payload":
        digest = sha256_hex(data)
        name = f"{number:03d}-{digest[:SHOWN_DIGITS]}.{suffix}"
        return cls(file=name, size=len(data), sha256=digest)


class UnitEntry(_OnDisk):
    unit: str
    result: Payload
    chain: Payload


class RunManifest(_OnDisk):
    """``units`` in the order of their commits; the generation is their number."""

    format_version: str = RUN_FORMAT_VERSION
    identity: dict[str, str]
    units: tuple[UnitEntry, ...] = ()

    def followed_by(self, entry: UnitEntry) -> "RunManifest":
        return RunManifest(identity=self.identity, units=(*self.units, entry))


def manifest_bytes(manifest: RunManifest) -> bytes:
    document = manifest.model_dump(mode="json")
    return canonical_json(document | {SEAL: sha256_hex(canonical_json(document))})


def read_manifest(path: Path) -> RunManifest | str:
    """Return the manifest, or why it cannot be used."""
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            return "is too large to be a manifest"
        document: object = json.loads(path.read_bytes())
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {(error.strerror or str(error)).lower()}"
    except (ValueError, RecursionError):
        return "is not JSON"
    if not isinstance(document, dict):
        return "is not a manifest"
    return _validated(cast("dict[str, Any]", document))


def _validated(document: dict[str, Any]) -> RunManifest | str:
    seal = document.pop(SEAL, None)
    try:
        if sha256_hex(canonical_json(document)) != seal:
            return "does not match its own hash"
        return RunManifest.model_validate(document)
    except (ValueError, ValidationError):
        return "is not a manifest of this format"
