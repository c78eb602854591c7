"""An artifact against its own plan, by a program that could not have written it.

Nothing here is shared with what quantizes, writes or loads: another reader of JSON and of tensor
files, another idea of what a line of the plan puts there, written from ``docs/format.md``.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from qcompile.audit.findings import MalformedError, broken_promise, damaged
from qcompile.audit.float_tensors import audit_floats, audit_untouched, owned_by
from qcompile.audit.plan_lines import Line, core_number, lines, refitted, rewritten
from qcompile.audit.quantized_tensors import audit_line, audit_one_grid, audit_tied, expected
from qcompile.audit.sealed_files import GRAPH, MODEL, PLAN, SealedFiles, read
from qcompile.audit.strict_json import field, tables
from qcompile.audit.tensor_file import StoredTensor, tensors
from qcompile.diagnostics.diagnostic import Diagnostic


def audit(directory: Path, weights: Sequence[Path] = ()) -> list[Diagnostic]:
    """QR903 no artifact, QR902 a changed file, QR908 a later format, QR910 a broken promise.

    ``weights`` are the safetensors files that the float model was loaded from: with them, every
    tensor that no rule and no transform touched must have their bytes.
    """
    files = read(directory)
    if isinstance(files, list):
        return files
    try:
        stated = lines(files.plan)
    except MalformedError as error:
        return [damaged(PLAN, str(error))]
    try:
        stored = tensors(files.model)
    except MalformedError as error:
        return [damaged(MODEL, str(error))]
    try:
        return [*_promises(files, stated, stored), *_untouched(files, stored, weights)]
    except MalformedError as error:
        return [damaged(GRAPH, str(error))]


def _promises(
    files: SealedFiles, stated: tuple[Line, ...], stored: dict[str, StoredTensor]
) -> Iterator[Diagnostic]:
    yield from audit_tied(stated)
    yield from audit_one_grid(stated, stored)
    for line in {line.name: line for line in stated}.values():
        yield from audit_line(line, stored)
    quantized = {line.name for line in stated if line.is_weight}
    of_lines = {part.name for line in stated for part in expected(line)}
    owned = owned_by(files.graph)
    yield from audit_floats(owned, stored, quantized, of_lines)
    floats = {item.name for item in owned if item.is_kept} - quantized
    for name in sorted(refitted(files.plan) - floats):
        yield broken_promise(
            f"`{name}` was to be refitted, and no float tensor has that name", name
        )
    shapes = {item.name: item.shape for item in owned}
    nodes = {field(node, "name", str) for node in tables(files.graph, "nodes")}
    for line in stated:
        if line.node not in nodes:
            yield broken_promise(f"the graph has no node `{line.node}`", line.site)
        if line.is_weight and shapes.get(line.parameter, line.shape) != line.shape:
            yield broken_promise(f"`{line.parameter}` has another shape in the graph", line.site)
    taken = sum(len(tensor.data) for tensor in stored.values())
    planned = core_number(files.plan, "bytes_after")
    if taken != planned:
        yield broken_promise(f"tensors take {taken} bytes, planned {planned}", MODEL)


def _untouched(
    files: SealedFiles, stored: dict[str, StoredTensor], weights: Sequence[Path]
) -> Iterator[Diagnostic]:
    if weights:
        kept = [item for item in owned_by(files.graph) if item.name not in refitted(files.plan)]
        yield from audit_untouched(kept, stored, rewritten(files.plan), weights)
