"""How large the integer sums of a layer can get, from the codes in the file alone.

A kernel multiplies ``code - zero_point`` of the weight by that of the input and adds the products
along a row, or along a group of it. The largest sum takes the input's largest number wherever the
weight is positive, and its smallest wherever it is negative: no input can exceed it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from qcompile.audit.codes import all_codes
from qcompile.audit.findings import sum_too_large
from qcompile.audit.plan_lines import Line
from qcompile.audit.tensor_file import StoredTensor
from qcompile.diagnostics.diagnostic import Diagnostic

Stored = Mapping[str, StoredTensor]
Integers = np.ndarray[tuple[int, ...], np.dtype[np.int64]]

KINDS = frozenset({"conv", "linear"})
BITS = 32
"""Of the sums of every integer kernel."""


@dataclass(frozen=True, slots=True)
class IntegerSum:
    site: str
    low: int
    high: int

    @property
    def bits(self) -> int:
        """Of two's complement."""
        return 1 + max(self.high.bit_length(), (-1 - self.low).bit_length() if self.low < 0 else 0)


def integer_sums(lines: tuple[Line, ...], stored: Stored) -> Iterator[IntegerSum]:
    """Of the layers whose weight and input both are integers; the tensors are as planned."""
    acts = {line.site: line for line in lines if line.slot == "act"}
    for line in lines:
        act = acts.get(line.site)
        if act is None or not line.is_weight or line.kind not in KINDS:
            continue
        if all(one.grids[0].is_integer and len(one.grids) == 1 for one in (line, act)):
            yield _attained(line, act, stored)


def audit_sums(lines: tuple[Line, ...], stored: Stored) -> Iterator[Diagnostic]:
    for found in integer_sums(lines, stored):
        if found.bits > BITS:
            yield sum_too_large(found.site, found.bits, BITS)


def _attained(weight: Line, act: Line, stored: Stored) -> IntegerSum:
    rows = _rows(weight, stored)
    least, most = _steps(act, stored)
    positive = np.maximum(rows, 0).sum(1, dtype=np.int64)
    negative = np.minimum(rows, 0).sum(1, dtype=np.int64)
    low = int((positive * least + negative * most).min(initial=0))
    high = int((positive * most + negative * least).max(initial=0))
    return IntegerSum(weight.site, low, high)


def _rows(line: Line, stored: Stored) -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
    """``code - zero_point``: a row for each sum."""
    (grid,) = line.grids
    data = stored[f"{line.name}:codes"].data
    codes = all_codes(data, grid.bits, line.row * line.channels).astype(np.int16)
    by_channel = np.moveaxis(codes.reshape(line.shape), line.channel_axis, 0)
    grouped = by_channel.reshape(*_groups(line), -1)
    if line.symmetric:
        grouped = grouped + np.int16(grid.lowest)
    else:
        zeros = np.frombuffer(stored[f"{line.name}:zero_point"].data, "u1").astype(np.int16)
        grouped = grouped - zeros.reshape(*line.scales, *[1] * (grouped.ndim - len(line.scales)))
    if line.group is not None:
        return grouped.reshape(-1, line.group)
    whole = np.moveaxis(grouped.reshape(by_channel.shape), 0, line.channel_axis)
    return np.moveaxis(whole, line.output_axis, 0).reshape(line.shape[line.output_axis], -1)


def _groups(line: Line) -> tuple[int, ...]:
    return (line.channels,) if line.group is None else (line.channels, line.row // line.group)


def _steps(act: Line, stored: Stored) -> tuple[int, int]:
    """Bounds of ``code - zero_point`` of the input."""
    (grid,) = act.grids
    width = (1 << grid.bits) - 1
    if act.symmetric:
        return grid.lowest, grid.lowest + width
    if act.at_run_time:
        return -width, width
    zeros = np.frombuffer(stored[f"{act.name}.zero_point"].data, "u1")
    return -int(zeros.max()), width - int(zeros.min())
