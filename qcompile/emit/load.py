"""An artifact as a module that runs, from its files alone."""

from pathlib import Path

from safetensors.torch import load as tensors_from
from torch import fx

from qcompile.diagnostics.failure import CompileError
from qcompile.emit.graph_decode import decode
from qcompile.emit.materialize import check_target, materialize
from qcompile.emit.planned_tensors import not_met, quantized_storages
from qcompile.emit.stored_artifact import StoredArtifact, read_artifact


def load(directory: str | Path, target: str = "simulate") -> fx.GraphModule:
    """Return the quantized graph in eval mode; no code of the user is needed or run.

    Raises ``CompileError``: QR903 no artifact, QR908 written by a later program, QR902 a file was
    changed, QR909 a graph that we would not have written, QR910 tensors that are not the plan's.
    """
    problems = check_target(target)
    if problems:
        raise CompileError(problems)
    stored = read_artifact(Path(directory))
    if not isinstance(stored, StoredArtifact):
        raise CompileError(stored)
    return assemble(stored, target)


def assemble(stored: StoredArtifact, target: str = "simulate") -> fx.GraphModule:
    """Do what ``load`` does once the files are read and checked."""
    tensors = tensors_from(stored.model)
    core = stored.plan.core
    graph = decode(stored.graph, tensors, quantized_storages(core))
    if not isinstance(graph, fx.GraphModule):
        raise CompileError(graph)
    module = materialize(graph, core, tensors, target)
    empty = [name for name, tensor in module.state_dict().items() if tensor.is_meta]
    if empty:
        raise CompileError([not_met(f"`{name}` has no values", name) for name in empty])
    return module
