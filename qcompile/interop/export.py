"""An artifact in another format: a pure function of its files."""

from collections.abc import Mapping

from safetensors.torch import load as tensors_from
from torch import fx

from qcompile.capture.tensors import owned_tensors
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.emit.load import assemble
from qcompile.emit.lower.exact import simulation
from qcompile.emit.stored_artifact import StoredArtifact
from qcompile.interop.capability import Capability, check_plan
from qcompile.interop.compressed_tensors import check_ties, compressed_tensors_files
from qcompile.interop.exported import Exported
from qcompile.interop.gguf import check_reader, gguf_file
from qcompile.interop.onnx_emit import check_operations, emit
from qcompile.interop.onnx_file import MAX_BYTES, model_bytes
from qcompile.interop.pt2 import pt2_bytes
from qcompile.interop.refusals import too_large
from qcompile.policy.core import PlanCore

TOOL = "qcompile"
IDENTITY = "qcompile.identity"
"""Key of the artifact's identity in the metadata of an exported file."""


def check_export(
    core: PlanCore,
    graph: fx.GraphModule,
    description: Mapping[str, bytes],
    capability: Capability,
) -> list[Diagnostic]:
    """All that stands between a plan and a format, before anything is spent.

    ``graph`` is the float graph of the plan, ``description`` what came with its model. QR550 what
    the format cannot hold, QR551 what ONNX cannot express; and QR554, a warning.
    """
    problems = check_plan(core, capability)
    match capability.name:
        case "onnx":
            return problems + check_operations(graph)
        case "gguf":
            return problems + check_reader(description, graph)
        case "compressed-tensors":
            aliases = [one.path for one in owned_tensors(graph) if one.storage != one.path]
            return problems + check_ties(core, description, aliases)
        case _:
            return problems


def exported(
    stored: StoredArtifact, capability: Capability, version: str
) -> Exported | list[Diagnostic]:
    """Nothing is written."""
    problems = check_plan(stored.plan.core, capability)
    if problems:
        return problems
    match capability.name:
        case "pt2":
            made = pt2_bytes(simulation(assemble(stored)))
            return made if isinstance(made, list) else Exported(made)
        case "onnx":
            return _onnx(stored, version)
        case "compressed-tensors":
            aliases = [one.name for one in stored.graph.tensors if one.alias is not None]
            problems = check_ties(stored.plan.core, stored.description, aliases)
            return problems or compressed_tensors_files(stored, tensors_from(stored.model))
        case "gguf":
            return gguf_file(stored, tensors_from(stored.model))
        case _:
            raise AssertionError(capability.name)


def _onnx(stored: StoredArtifact, version: str) -> Exported | list[Diagnostic]:
    metadata = {IDENTITY: stored.manifest.identity}
    model = emit(assemble(stored), stored.plan.core.model, (TOOL, version), metadata)
    if isinstance(model, list):
        return model
    data = model_bytes(model)
    return Exported(data) if len(data) <= MAX_BYTES else [too_large(len(data), MAX_BYTES)]
