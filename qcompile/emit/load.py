"""An artifact as a module that runs, from its files alone."""

from dataclasses import replace
from pathlib import Path

from safetensors.torch import load as tensors_from
from torch import fx

from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.failure import CompileError
from qcompile.emit.graph_decode import decode
from qcompile.emit.lower.agreement import agreement
from qcompile.emit.lower.exact import simulation
from qcompile.emit.lower.lower import lower
from qcompile.emit.lower.lowering import Lowering
from qcompile.emit.materialize import materialize
from qcompile.emit.planned_tensors import not_met, quantized_storages
from qcompile.emit.stored_artifact import StoredArtifact, read_artifact
from qcompile.targets.catalogue import find_target
from qcompile.targets.names import BUILTIN, REFERENCE, unknown_target
from qcompile.targets.target import Target


def load(directory: str | Path, target: str | None = None, *, check: bool = True) -> fx.GraphModule:
    """Return the quantized graph in eval mode; no code of the user is needed or run.

    ``target`` is a name or a file of its own; see ``load_for`` for what became of each layer. The
    model is on the target's device.
    """
    return load_for(directory, target, check=check).module


def load_for(directory: str | Path, target: str | None = None, *, check: bool = True) -> Lowering:
    """Return the quantized graph with the kernels of ``target``, and what got none.

    Without ``target`` it is that of the artifact's plan.

    With ``check`` kernels and simulation are compared with the float reference before anybody
    relies on them.
    Raises ``CompileError``: QR201, QR540, QR541 no such target, file or machine, QR507 a layer that
    the target refuses, QR930 kernels that disagree; QR903 no artifact, QR908 written by a later
    program, QR902 a file was changed, QR909 a graph that we would not have written, QR910 tensors
    that are not the plan's.
    """
    asked = None if target is None else _found(target)
    stored = read_artifact(Path(directory))
    if not isinstance(stored, StoredArtifact):
        raise CompileError(stored)
    wanted = asked or _recorded(stored.plan.beside.output.target)
    reference = assemble(stored)
    is_checked = check and wanted.name != REFERENCE
    # before anything of the reference moves to a device
    simulated = simulation(reference) if is_checked else None
    lowering = lower(reference, stored.plan.core, wanted)
    if not isinstance(lowering, Lowering):
        raise CompileError(lowering if asked else [_by_recipe(one) for one in lowering])
    if simulated is None:
        return lowering
    device = lowering.device
    found = agreement(reference.to(device), simulated.to(device), lowering, wanted)
    if found.problems:
        raise CompileError(list(found.problems))
    report = replace(
        lowering.report,
        checked=found.batches,
        difference=found.difference,
        layer_difference=found.layer_difference,
    )
    return replace(lowering, report=report)


def _found(name: str) -> Target:
    found = find_target(name)
    if isinstance(found, Diagnostic):
        raise CompileError([found])
    return found


def _recorded(name: str) -> Target:
    """A plan names none but the targets that ship: a file of this machine is not for it to open."""
    if name not in BUILTIN:
        raise CompileError([unknown_target(name)])
    return _found(name)


def _by_recipe(problem: Diagnostic) -> Diagnostic:
    """``problem`` of a target that the caller did not name."""
    why = "the recipe of the artifact asks for this target; `load(..., target=)` names another"
    return replace(problem, notes=(*problem.notes, why))


def assemble(stored: StoredArtifact) -> fx.GraphModule:
    """Build the reference, in float products, once the files are read and checked."""
    tensors = tensors_from(stored.model)
    core = stored.plan.core
    graph = decode(stored.graph, tensors, quantized_storages(core))
    if not isinstance(graph, fx.GraphModule):
        raise CompileError(graph)
    module = materialize(graph, core, tensors)
    empty = [name for name, tensor in module.state_dict().items() if tensor.is_meta]
    if empty:
        raise CompileError([not_met(f"`{name}` has no values", name) for name in empty])
    return module
