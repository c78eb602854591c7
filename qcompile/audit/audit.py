"""An artifact against its own plan, by a program that could not have written it.

Nothing here is shared with what quantizes, writes or loads: another reader of JSON and of tensor
files, another idea of what a line of the plan puts there, written from ``docs/format.md``.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from qcompile.audit.findings import MalformedError, broken_promise, damaged
from qcompile.audit.float_tensors import audit_floats, audit_untouched, owned_by
from qcompile.audit.integer_sums import IntegerSum, audit_sums, integer_sums
from qcompile.audit.plan_lines import Line, Promises, promises
from qcompile.audit.quantized_tensors import audit_line, audit_one_grid, audit_tied, expected
from qcompile.audit.sealed_files import GRAPH, MODEL, PLAN, read
from qcompile.audit.strict_json import Table, field, tables
from qcompile.audit.tensor_file import StoredTensor, tensors
from qcompile.diagnostics.diagnostic import Diagnostic


def audit(directory: Path, weights: Sequence[Path] = ()) -> list[Diagnostic]:
    """QR903 no artifact, QR902 a changed file, QR908 a later format, QR910 a broken promise.

    QR517: integer sums of a layer may not fit 32 bits, by the codes that are there. ``weights`` are
    the safetensors files that the float model was loaded from: with them, every tensor that no rule
    and no transform touched must have their bytes.
    """
    files = read(directory)
    if isinstance(files, list):
        return files
    try:
        stated = promises(files.plan)
    except MalformedError as error:
        return [damaged(PLAN, str(error))]
    try:
        stored = tensors(files.model)
    except MalformedError as error:
        return [damaged(MODEL, str(error))]
    try:
        return [*_broken(files.graph, stated, stored, weights)]
    except MalformedError as error:
        return [damaged(GRAPH, str(error))]


def sums_of(directory: Path) -> tuple[IntegerSum, ...]:
    """The largest integer sums of each layer of an artifact that ``audit`` has nothing against."""
    files = read(directory)
    assert not isinstance(files, list), "it was audited"
    return tuple(integer_sums(promises(files.plan).lines, tensors(files.model)))


def _broken(
    graph: Table, stated: Promises, stored: Mapping[str, StoredTensor], weights: Sequence[Path]
) -> Iterator[Diagnostic]:
    of_grids = [*_of_lines(graph, stated.lines, stored)]
    yield from of_grids
    if not of_grids:
        yield from audit_sums(stated.lines, stored)
    quantized = {line.name for line in stated.lines if line.is_weight}
    of_lines = {part.name for line in stated.lines for part in expected(line)}
    owned = owned_by(graph)
    yield from audit_floats(owned, stored, quantized, of_lines)
    floats = {item.name for item in owned if item.is_kept} - quantized
    for name in sorted(stated.refitted - floats):
        yield broken_promise(
            f"`{name}` was to be refitted, and no float tensor has that name", name
        )
    taken = sum(len(tensor.data) for tensor in stored.values())
    if taken != stated.nbytes:
        yield broken_promise(f"tensors take {taken} bytes, planned {stated.nbytes}", MODEL)
    if weights:
        compared = [item for item in owned if item.name not in stated.refitted]
        yield from audit_untouched(compared, stored, stated.rewritten, weights)


def _of_lines(
    graph: Table, lines: tuple[Line, ...], stored: Mapping[str, StoredTensor]
) -> Iterator[Diagnostic]:
    yield from audit_tied(lines)
    yield from audit_one_grid(lines, stored)
    for line in {line.name: line for line in lines}.values():
        yield from audit_line(line, stored)
    shapes = {item.name: item.shape for item in owned_by(graph)}
    nodes = {field(node, "name", str) for node in tables(graph, "nodes")}
    for line in lines:
        if line.node not in nodes:
            yield broken_promise(f"the graph has no node `{line.node}`", line.site)
        if line.is_weight and shapes.get(line.parameter, line.shape) != line.shape:
            yield broken_promise(f"`{line.parameter}` has another shape in the graph", line.site)
