"""Each line of a plan against the bytes: dtype, shape, scales, zero points, codes, size."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from qcompile.audit.codes import bits_behind, has_code
from qcompile.audit.findings import broken_promise
from qcompile.audit.number_grids import Grid
from qcompile.audit.plan_lines import Line
from qcompile.audit.tensor_file import StoredTensor
from qcompile.diagnostics.diagnostic import Diagnostic

Stored = Mapping[str, StoredTensor]
SMALLEST_NORMAL = float(np.finfo(np.float32).tiny)
E8M0_NAN, E4M3_NAN = 0xFF, 0x7F


@dataclass(frozen=True, slots=True)
class Part:
    """A tensor that a line puts into the file."""

    name: str
    kind: str
    """``codes``, ``scale``, ``signed scale``, ``zero_point``, or a parameter of the format."""
    grid: Grid
    dtype: str
    shape: tuple[int, ...]


def expected(line: Line) -> tuple[Part, ...]:
    return tuple(_of_weight(line) if line.is_weight else _of_activation(line))


def _of_weight(line: Line) -> Iterator[Part]:
    count = prod(line.shape)
    for place, grid in enumerate(line.grids, start=1):
        prefix = f"{line.name}:" if place == 1 else f"{line.name}:term{place}."
        yield Part(f"{prefix}codes", "codes", grid, "U8", (-(-count * grid.bits // 8),))
        one_byte = grid.scale in {"e8m0", "e4m3"}
        kind = "signed scale" if line.has_signed_scales else "scale"
        yield Part(f"{prefix}scale", kind, grid, "U8" if one_byte else "F32", line.scales)
        for name, length in grid.parameters:
            yield Part(f"{prefix}{name}", name, grid, "F32", (length,))
    if not line.symmetric:
        yield Part(f"{line.name}:zero_point", "zero_point", line.grids[0], "U8", line.scales)


def _of_activation(line: Line) -> Iterator[Part]:
    if line.at_run_time:
        return
    (grid,) = line.grids
    yield Part(f"{line.name}.scale", "scale", grid, "F32", line.scales)
    if not line.symmetric:
        yield Part(f"{line.name}.zero_point", "zero_point", grid, "U8", line.scales)
    for name, length in grid.parameters:
        yield Part(f"{line.name}.{name}", name, grid, "F32", (length,))


def audit_line(line: Line, stored: Stored) -> Iterator[Diagnostic]:
    if line.is_weight and line.group is not None and line.row % line.group:
        yield broken_promise(f"groups of {line.group} do not divide rows of {line.row}", line.site)
    parts = expected(line)
    wrong = [problem for part in parts if (problem := _form(part, stored.get(part.name)))]
    yield from wrong
    if wrong:
        return
    taken = sum(len(stored[part.name].data) for part in parts)
    if taken != line.nbytes:
        what = f"`{line.slot}` of `{line.site}` takes {taken} bytes, planned {line.nbytes}"
        yield broken_promise(what, line.site)
    for part in parts:
        why = _objection(part, stored[part.name], prod(line.shape))
        if why:
            yield broken_promise(f"`{part.name}` has {why}", part.name)


def audit_tied(lines: tuple[Line, ...]) -> Iterator[Diagnostic]:
    """Lines about one storage speak of one tensor: they have to say the same of its grid."""
    first: dict[str, Line] = {}
    for line in lines:
        if not line.is_weight:
            continue
        other = first.setdefault(line.name, line)
        if (other.grid, other.nbytes) != (line.grid, line.nbytes):
            what = f"`{line.name}` is shared by `{other.site}` and `{line.site}` on unlike grids"
            yield broken_promise(what, line.name)


def audit_one_grid(lines: tuple[Line, ...], stored: Stored) -> Iterator[Diagnostic]:
    """Operands of a site that a ``share`` line joins have equal scales and zero points."""
    first: dict[tuple[str, bytes], Line] = {}
    for line in lines:
        if not line.shared_by:
            continue
        other = first.setdefault((line.site, line.shared_by), line)
        if other.grid != line.grid:
            what = f"`{other.name}` and `{line.name}` are planned to be shared, on unlike grids"
            yield broken_promise(what, line.site)
            continue
        for ours, theirs in zip(expected(line), expected(other), strict=True):
            found = [stored[part.name].data for part in (ours, theirs) if part.name in stored]
            if len(set(map(bytes, found))) > 1:
                what = f"`{ours.name}` and `{theirs.name}` differ, and are planned to be shared"
                yield broken_promise(what, line.site)


def _form(part: Part, found: StoredTensor | None) -> Diagnostic | None:
    if found is None:
        return broken_promise(f"`{part.name}` is missing", part.name)
    if (found.dtype, found.shape) == (part.dtype, part.shape):
        return None
    is_now = f"`{part.name}` is {found.dtype}{list(found.shape)}"
    return broken_promise(f"{is_now}, planned {part.dtype}{list(part.shape)}", part.name)


def _objection(part: Part, found: StoredTensor, count: int) -> str | None:
    """What is wrong with the numbers of a tensor; ``count`` codes belong to the line."""
    match part.kind:
        case "codes":
            return _of_codes(part.grid, found.data, count)
        case "zero_point":
            largest = int(np.frombuffer(found.data, "u1").max(initial=0))
            return "a zero point outside of its grid" if largest >> part.grid.bits else None
        case "levels":
            finite = bool(np.isfinite(np.frombuffer(found.data, "<f4")).all())
            return None if finite else "a level that is no number"
        case "scale" if part.dtype == "U8":
            last = E8M0_NAN if part.grid.scale == "e8m0" else E4M3_NAN
            largest = int(np.frombuffer(found.data, "u1").max(initial=0))
            return "a scale that is no number, or has a sign" if largest >= last else None
        case _:
            return _of_scale(part, np.frombuffer(found.data, "<f4"))


def _of_scale(part: Part, values: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> str | None:
    """Scales of integers are normal numbers; other scales and exponents at least positive."""
    normal = part.grid.scale == "normal"
    if part.kind == "signed scale":
        values = np.abs(values)
    enough = values >= SMALLEST_NORMAL if normal else values > 0
    if bool((np.isfinite(values) & enough).all()):
        return None
    return f"a value that is no positive {'normal ' if normal else ''}number"


def _of_codes(grid: Grid, stream: memoryview, count: int) -> str | None:
    if bits_behind(stream, count * grid.bits):
        return "something behind its last code"
    if has_code(stream, grid.bits, count, grid.unused):
        return "a code that stands for no number"
    return None
