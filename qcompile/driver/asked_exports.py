"""The exports that a recipe asks for: judged with its plan, written beside its artifact."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import fx

from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.diagnostics.failure import CompileError
from qcompile.driver.export import Export, check_output, known, write_export
from qcompile.emit.stored_artifact import StoredArtifact, read_artifact
from qcompile.interop.export import check_export
from qcompile.policy.core import PlanCore
from qcompile.policy.recipe import Output
from qcompile.store.disk import Disk


def check_asked(
    output: Output, core: PlanCore, graph: fx.GraphModule, description: Mapping[str, bytes]
) -> list[Diagnostic]:
    """QR550, QR551, QR554, as `plan --for` finds them, at the `format` of the recipe."""
    kinds = [known(name) for name in output.exports]
    found = [p for kind in kinds for p in check_export(core, graph, description, kind)]
    return [replace(problem, primary=Label(output.format_span)) for problem in found]


def place_of(artifact: Path, name: str) -> Path:
    """``build/net.v1`` in ``onnx`` is ``build/net.v1.onnx``."""
    if artifact.name in ("", ".."):
        artifact = Path(os.path.abspath(artifact))
    return artifact.with_name(f"{artifact.name}.{name}")


def check_places(artifact: Path, formats: Sequence[str], replaced: bool) -> list[Diagnostic]:
    """QR901 for each place that is taken."""
    places = [(place_of(artifact, name), known(name)) for name in formats]
    return [p for place, kind in places for p in check_output(place, kind, replaced)]


def write_asked(
    disk: Disk, artifact: Path, formats: Sequence[str], replaced: bool
) -> tuple[tuple[Export, ...], list[Diagnostic]]:
    """Each export whole or not at all; one that cannot be made keeps no other from being made."""
    if not formats:
        return (), []
    stored = read_artifact(artifact)
    if not isinstance(stored, StoredArtifact):
        return (), stored
    written: list[Export] = []
    problems = check_places(artifact, formats, replaced)
    if problems:
        return (), problems
    for name in formats:
        try:
            written.append(write_export(disk, stored, known(name), place_of(artifact, name)))
        except CompileError as error:
            problems += error.diagnostics
    return tuple(written), problems
