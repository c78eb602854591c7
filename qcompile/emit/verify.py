"""Whether an artifact is what its plan says, to the byte."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.failure import CompileError
from qcompile.emit.artifact_files import MODEL_FILE, REPORT_FILE, is_sealed
from qcompile.emit.graph_document import GraphDocument
from qcompile.emit.load import assemble
from qcompile.emit.planned_tensors import (
    PlannedTensor,
    not_met,
    planned_tensors,
    quantized_storages,
    tensors_of,
)
from qcompile.emit.stored_artifact import StoredArtifact, corrupt, read_artifact
from qcompile.policy.core import PlanCore, RuleRef
from qcompile.store.safetensors_header import Entry

DTYPES: dict[str, str] = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "uint32": "U32",
    "int32": "I32",
    "uint64": "U64",
    "int64": "I64",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
    "complex64": "C64",
}
"""Torch's name to the file's."""


def verify(directory: str | Path) -> list[Diagnostic]:
    """Check hashes and seals (QR902), tensors and bytes against the plan (QR910), and load it."""
    root = Path(directory)
    stored = read_artifact(root)
    if not isinstance(stored, StoredArtifact):
        return stored
    problems = [*_report_problems(root / REPORT_FILE), *_tensor_problems(stored)]
    if problems:
        return problems
    try:
        assemble(stored)
    except CompileError as error:
        return error.diagnostics
    return []


def _report_problems(path: Path) -> list[Diagnostic]:
    try:
        data = path.read_bytes()
        raw: object = json.loads(data)
        if isinstance(raw, dict) and is_sealed(cast("dict[str, Any]", raw), data):
            return []
    except OSError as error:
        return [corrupt(REPORT_FILE, f"cannot be read: {(error.strerror or str(error)).lower()}")]
    except (ValueError, RecursionError):
        return [corrupt(REPORT_FILE, "is not JSON")]
    return [corrupt(REPORT_FILE, "was changed")]


def _tensor_problems(stored: StoredArtifact) -> list[Diagnostic]:
    core = stored.plan.core
    entries = {entry.name: entry for entry in stored.header.entries}
    expected = planned_tensors(core) | _float_tensors(stored.graph, core)
    problems = [
        problem
        for name in sorted(expected)
        if (problem := _difference(expected[name], entries.get(name))) is not None
    ]
    hidden = _names_of_quantized(stored.graph, core)
    for name in sorted(entries.keys() - expected.keys()):
        what = "is a float copy of a quantized weight" if name in hidden else "is in no plan"
        problems.append(not_met(f"`{name}` {what}", name))
    problems.extend(_byte_problems(core, entries))
    problems.extend(_share_problems(core, entries, stored.model))
    if stored.header.tensor_bytes != core.bytes_after:
        what = f"tensors take {stored.header.tensor_bytes} bytes, planned {core.bytes_after}"
        problems.append(not_met(what, MODEL_FILE))
    return problems


def _float_tensors(graph: GraphDocument, core: PlanCore) -> dict[str, PlannedTensor]:
    quantized = quantized_storages(core)
    return {
        record.name: PlannedTensor(record.name, record.dtype, record.shape)
        for record in graph.tensors
        if record.alias is None and record.name not in quantized
    }


def _names_of_quantized(graph: GraphDocument, core: PlanCore) -> frozenset[str]:
    quantized = quantized_storages(core)
    return quantized | {record.name for record in graph.tensors if record.stored_as in quantized}


def _difference(expected: PlannedTensor, found: Entry | None) -> Diagnostic | None:
    if found is None:
        return not_met(f"`{expected.name}` is missing", expected.name)
    wanted = DTYPES.get(expected.dtype, expected.dtype)
    if (found.dtype, found.shape) == (wanted, expected.shape):
        return None
    what = f"`{expected.name}` is {found.dtype}{list(found.shape)}"
    return not_met(f"{what}, planned {wanted}{list(expected.shape)}", expected.name)


def _byte_problems(core: PlanCore, entries: dict[str, Entry]) -> Iterator[Diagnostic]:
    """Compare what each planned tensor was forecast to take with what it takes."""
    for site in core.sites:
        for plan, group in tensors_of(site):
            sizes = [entries[tensor.name].nbytes for tensor in group if tensor.name in entries]
            if len(sizes) == len(group) and sum(sizes) != plan.bytes_after:
                what = f"`{plan.slot}` of `{site.key}` takes {sum(sizes)} bytes"
                yield not_met(f"{what}, planned {plan.bytes_after}", site.key)


def _share_problems(
    core: PlanCore, entries: Mapping[str, Entry], data: bytes
) -> Iterator[Diagnostic]:
    """Operands that a ``share`` line puts on one grid have equal scales and zero points."""
    for site in core.sites:
        first: dict[RuleRef, tuple[PlannedTensor, ...]] = {}
        for plan, group in tensors_of(site):
            if plan.shared_by is None:
                continue
            others = first.setdefault(plan.shared_by, group)
            for ours, theirs in zip(group, others, strict=True):
                found = [entries[one.name] for one in (ours, theirs) if one.name in entries]
                if len({data[entry.begin : entry.end] for entry in found}) > 1:
                    what = f"`{ours.name}` and `{theirs.name}` differ, and are planned to be shared"
                    yield not_met(what, site.key)
