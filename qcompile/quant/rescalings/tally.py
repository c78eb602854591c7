"""The figures of a value's channels, gathered batch by batch."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from qcompile.quant.rescalings.channels import Channels

ROWS = 512
"""Kept of all batches together: as many as AWQ's search looks at."""

TAIL = 0.001
"""Share of a channel's numbers at either end that its range leaves out (RepQ-ViT)."""

_LOOKED_AT = 4096
"""Rows of a batch from which its range is told."""


@dataclass(slots=True, eq=False)
class Tally:
    """``batches`` are to come."""

    batches: int
    _peaks: list[Tensor] = field(default_factory=list[Tensor])
    _sums: list[Tensor] = field(default_factory=list[Tensor])
    _lows: list[Tensor] = field(default_factory=list[Tensor])
    _highs: list[Tensor] = field(default_factory=list[Tensor])
    _kept: list[Tensor] = field(default_factory=list[Tensor])
    _rows: int = 0

    def add(self, value: Tensor, axis: int) -> None:
        """One batch; ``axis`` counts the channels."""
        rows = value.detach().movedim(axis, -1).flatten(0, -2)
        self._rows += len(rows)
        self._peaks.append(rows.abs().amax(0).double())
        self._sums.append(rows.abs().sum(0, dtype=torch.float64))
        seen = _evenly(rows, _LOOKED_AT).float()
        cut = int(TAIL * (len(seen) - 1))
        self._lows.append(seen.kthvalue(cut + 1, dim=0).values.double())
        self._highs.append(seen.kthvalue(len(seen) - cut, dim=0).values.double())
        self._kept.append(_evenly(rows, -(-ROWS // self.batches)).float())

    def channels(self) -> Channels:
        return Channels(
            peak=torch.stack(self._peaks).amax(0),
            mean=torch.stack(self._sums).sum(0) / self._rows,
            low=torch.stack(self._lows).mean(0),
            high=torch.stack(self._highs).mean(0),
            rows=torch.cat(self._kept),
        )


def _evenly(rows: Tensor, most: int) -> Tensor:
    """At most ``most`` of the rows, from all over."""
    return rows[:: max(-(-len(rows) // most), 1)]
