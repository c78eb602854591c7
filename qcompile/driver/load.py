"""Artifacts read back: as a module, as a plan, as a report."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from torch import fx

from qcompile.audit.audit import audit
from qcompile.audit.findings import damaged
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.failure import CompileError
from qcompile.emit.artifact_files import (
    ARTIFACT_FORMAT_VERSION,
    REPORT_FILE,
    Manifest,
    is_sealed,
)
from qcompile.emit.format_version import check_version
from qcompile.emit.load import assemble, load_for
from qcompile.emit.lower.lowering import Lowering
from qcompile.emit.stored_artifact import (
    MAX_TEXT_BYTES,
    StoredArtifact,
    read_artifact,
    read_manifest,
)
from qcompile.policy.core import Plan
from qcompile.report.run_report import RunReport


def load(directory: str | Path, target: str | None = None, *, check: bool = True) -> fx.GraphModule:
    """The quantized model of an artifact, in eval mode, rebuilt from its files alone.

    ``target`` names the kernels that it computes with, see ``lowering``; left out, it is what the
    recipe's ``output`` says, else ``simulate``. Raises ``CompileError`` when the directory is no
    artifact, was changed, or is from a later tool, when the machine cannot run the target, and,
    unless ``check`` is off, when kernels and simulation disagree.
    """
    return load_for(directory, target, check=check).module


def lowering(directory: str | Path, target: str, *, check: bool = True) -> Lowering:
    """What ``load`` gives, with what became of each layer and how well the kernels agree."""
    return load_for(directory, target, check=check)


def verify(directory: str | Path, weights: Sequence[Path] = ()) -> list[Diagnostic]:
    """Everything in which an artifact differs from its own plan and hashes; empty if all holds.

    The auditor shares no code with what wrote the artifact. Where it finds nothing, the graph is
    built as well. ``weights`` are the safetensors files that the float model came from: tensors
    that nothing touched must have their bytes.
    """
    problems = audit(Path(directory), weights)
    if problems:
        return problems
    stored = read_artifact(Path(directory))
    if not isinstance(stored, StoredArtifact):
        return stored
    try:
        assemble(stored)
    except CompileError as error:
        return error.diagnostics
    return []


def plan_of(directory: str | Path) -> Plan:
    """The plan that an artifact was made by."""
    stored = read_artifact(Path(directory))
    if not isinstance(stored, StoredArtifact):
        raise CompileError(stored)
    return stored.plan


def read_report(directory: str | Path) -> RunReport | list[Diagnostic]:
    """What happened in the run; QR902 if it is gone or was changed, QR908 for a later format."""
    path = Path(directory) / REPORT_FILE
    try:
        if path.stat().st_size > MAX_TEXT_BYTES:
            return [damaged(REPORT_FILE, "is larger than any report")]
        data = path.read_bytes()
        document: object = json.loads(data)
        newer = check_version(REPORT_FILE, document, ARTIFACT_FORMAT_VERSION)
        if newer:
            return newer
        if not isinstance(document, dict) or not is_sealed(cast("dict[str, Any]", document), data):
            return [damaged(REPORT_FILE, "was changed")]
        return RunReport.model_validate(document)
    except OSError as error:
        return [damaged(REPORT_FILE, f"cannot be read: {(error.strerror or str(error)).lower()}")]
    except (ValueError, RecursionError):
        return [damaged(REPORT_FILE, "is no report of a run")]


def report_of(directory: str | Path) -> RunReport | None:
    """``None`` if it is gone or damaged: ``verify`` says so."""
    found = read_report(directory)
    return found if isinstance(found, RunReport) else None


def identity_of(directory: str | Path) -> str:
    """Hash over model, graph and plan core: equal for artifacts that compute the same."""
    manifest = read_manifest(Path(directory))
    if not isinstance(manifest, Manifest):
        raise CompileError(manifest)
    return manifest.identity
