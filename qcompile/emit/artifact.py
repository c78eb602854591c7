"""Write an artifact: everything that is needed to run and to check a quantized model."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from pydantic import JsonValue
from safetensors.torch import save
from torch import Tensor, fx

from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.emit.artifact_files import (
    ARTIFACT_FORMAT_VERSION,
    GRAPH_FILE,
    MANIFEST_FILE,
    MODEL_FILE,
    PLAN_FILE,
    REPORT_FILE,
    Manifest,
    artifact_identity,
    description_files,
    file_entry,
    recipe_files,
    sealed,
)
from qcompile.emit.graph_encode import encode
from qcompile.emit.planned_tensors import (
    check_tensors,
    planned_tensors,
    quantized_storages,
    refitted,
)
from qcompile.emit.tensor_table import tensor_table
from qcompile.policy.core import Plan
from qcompile.store.atomic import check_free, publish_files
from qcompile.store.canonical import canonical_json
from qcompile.store.disk import Disk


def write_artifact(
    disk: Disk,
    directory: Path,
    module: fx.GraphModule,
    plan: Plan,
    tensors: Mapping[str, Tensor],
    report: Mapping[str, JsonValue],
    replace: bool = False,
    description: Mapping[str, bytes] = MappingProxyType({}),
) -> list[Diagnostic]:
    """Publish the artifact of the float graph ``module`` and the quantized ``tensors`` of ``plan``.

    ``description``: files that came with the model, by name, and stay with it.
    Nothing is written unless all of it can be: QR530 for an operation outside the vocabulary,
    QR910 for tensors that differ from the plan, QR901 for an occupied directory, QR905 for a disk
    that fails. Two calls with equal arguments write equal bytes.
    """
    problems = check_free(directory, replace)
    if problems:
        return problems
    document, problems = encode(module)
    problems += check_tensors(plan.core, tensors)
    if problems:
        return problems
    made = {name: tensors[name] for name in (*planned_tensors(plan.core), *refitted(plan.core))}
    model = model_bytes(float_tensors(module, plan) | made)
    graph = canonical_json(document.model_dump(mode="json"))
    files = {
        MODEL_FILE: model,
        GRAPH_FILE: graph,
        PLAN_FILE: canonical_json(plan.model_dump(mode="json")),
        **recipe_files(plan.beside.recipe_texts),
        **description_files(description),
    }
    entries = {name: file_entry(data) for name, data in files.items()}
    identity = artifact_identity(entries[MODEL_FILE].sha256, entries[GRAPH_FILE].sha256, plan.core)
    manifest = Manifest(identity=identity, files=entries)
    files[MANIFEST_FILE] = sealed(manifest.model_dump(mode="json"))
    files[REPORT_FILE] = sealed({"format_version": ARTIFACT_FORMAT_VERSION, **report})
    return publish_files(disk, directory, files, replace)


def float_tensors(module: fx.GraphModule, plan: Plan) -> dict[str, Tensor]:
    """Everything the graph reads that does not exist as codes, tied tensors once."""
    quantized = quantized_storages(plan.core)
    return {
        item.record.name: item.tensor
        for item in tensor_table(module)
        if item.record.alias is None and item.record.name not in quantized
    }


def model_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """Equal tensors give equal bytes, in whatever order and memory layout they come.

    One entry of metadata: the library writes several in random order.
    """
    apart: dict[str, Tensor] = {}
    taken: set[int] = set()
    for name, tensor in sorted(tensors.items()):
        plain = tensor.detach().cpu().contiguous()
        memory = plain.untyped_storage()
        if memory.nbytes() != plain.nbytes or memory.data_ptr() in taken:
            plain = plain.clone()  # the format cannot say that two tensors share memory
        taken.add(plain.untyped_storage().data_ptr())
        apart[name] = plain
    return save(apart, {"format_version": ARTIFACT_FORMAT_VERSION})
