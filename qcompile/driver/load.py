"""Artifacts read back: as a module, as a plan, as a report."""

from collections.abc import Sequence
from pathlib import Path

from torch import fx

from qcompile.audit.audit import audit
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.failure import CompileError
from qcompile.emit.artifact_files import REPORT_FILE, Manifest
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


def report_of(directory: str | Path) -> RunReport | None:
    """What happened in the run; ``None`` if it is gone or damaged (``verify`` says so)."""
    path = Path(directory) / REPORT_FILE
    try:
        if path.stat().st_size > MAX_TEXT_BYTES:
            return None
        return RunReport.model_validate_json(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def identity_of(directory: str | Path) -> str:
    """Hash over model, graph and plan core: equal for artifacts that compute the same."""
    manifest = read_manifest(Path(directory))
    if not isinstance(manifest, Manifest):
        raise CompileError(manifest)
    return manifest.identity
