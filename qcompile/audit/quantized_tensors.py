"""Each line of a plan against the bytes: dtype, shape, scales, zero points, codes, size."""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from qcompile.audit.findings import broken_promise
from qcompile.audit.plan_lines import Line
from qcompile.audit.tensor_file import StoredTensor
from qcompile.diagnostics.diagnostic import Diagnostic

Stored = Mapping[str, StoredTensor]
SMALLEST = float(np.finfo(np.float32).tiny)


def expected(line: Line) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name to dtype and shape, of what the line puts in the file."""
    if line.at_run_time and not line.is_weight:
        return {}
    mark = ":" if line.is_weight else "."
    made = {f"{line.name}{mark}scale": ("F32", line.scales)}
    if line.is_weight:
        count = int(np.prod(line.shape, dtype=np.int64))
        made[f"{line.name}:codes"] = ("U8", (-(-count * line.bits // 8),))
    if not line.symmetric:
        made[f"{line.name}{mark}zero_point"] = ("U8", line.scales)
    return made


def audit_line(line: Line, stored: Stored) -> Iterator[Diagnostic]:
    if line.group is not None and line.row % line.group:
        yield broken_promise(f"groups of {line.group} do not divide rows of {line.row}", line.site)
    wanted = expected(line)
    wrong = [
        problem
        for name, (dtype, shape) in wanted.items()
        if (problem := _form(name, dtype, shape, stored.get(name)))
    ]
    yield from wrong
    if wrong:
        return
    taken = sum(len(stored[name].data) for name in wanted)
    if taken != line.nbytes:
        what = f"`{line.slot}` of `{line.site}` takes {taken} bytes, planned {line.nbytes}"
        yield broken_promise(what, line.site)
    for name in wanted:
        yield from _values(name, line, stored[name])


def audit_shared(lines: tuple[Line, ...]) -> Iterator[Diagnostic]:
    """Lines about one storage speak of one tensor: they have to say the same of its grid."""
    first: dict[str, Line] = {}
    for line in lines:
        if not line.is_weight:
            continue
        other = first.setdefault(line.name, line)
        if (other.grid, other.nbytes) != (line.grid, line.nbytes):
            what = f"`{line.name}` is shared by `{other.site}` and `{line.site}` on unlike grids"
            yield broken_promise(what, line.name)


def _form(
    name: str, dtype: str, shape: tuple[int, ...], found: StoredTensor | None
) -> Diagnostic | None:
    if found is None:
        return broken_promise(f"`{name}` is missing", name)
    if (found.dtype, found.shape) == (dtype, shape):
        return None
    is_now = f"`{name}` is {found.dtype}{list(found.shape)}"
    return broken_promise(f"{is_now}, planned {dtype}{list(shape)}", name)


def _values(name: str, line: Line, found: StoredTensor) -> Iterator[Diagnostic]:
    if name.endswith("scale"):
        scale = np.frombuffer(found.data, "<f4")
        if not bool((np.isfinite(scale) & (scale >= SMALLEST)).all()):
            yield broken_promise(f"`{name}` has a scale that is no positive normal number", name)
    elif name.endswith("zero_point"):
        if int(np.frombuffer(found.data, "u1").max(initial=0)) >> line.bits:
            yield broken_promise(f"`{name}` has a zero point outside of its grid", name)
    elif _padding(np.frombuffer(found.data, "u1"), line):
        yield broken_promise(f"`{name}` has something behind its last code", name)


def _padding(stream: NDArray[np.uint8], line: Line) -> bool:
    """Whether any bit behind the last code is set."""
    count = int(np.prod(line.shape, dtype=np.int64))
    last = np.unpackbits(stream[-1:], bitorder="little")
    return bool(last[(count * line.bits - 1) % 8 + 1 :].any())
