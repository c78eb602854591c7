"""The figures of a value's channels, gathered batch by batch."""

import torch
from torch import Tensor

from qcompile.quant.rescalings.channels import Channels

ROWS = 512
"""Kept of all batches together: as many as AWQ's search looks at."""

TAIL = 0.001
"""Share of a channel's numbers at either end that its range leaves out (RepQ-ViT)."""

_LOOKED_AT = 4096
"""Rows of a batch from which its range is told."""


class Tally:
    """All that lasts is allocated at the start.

    Small tensors that outlive a batch, laid between its large ones, would leave holes in the heap
    that nothing fits into.
    """

    def __init__(self, batches: int, channels: int) -> None:
        self._batches = batches
        self._peak, self._sum, self._low, self._high = torch.zeros(
            4, channels, dtype=torch.float64
        ).unbind()
        self._each = -(-ROWS // batches)
        self._kept = torch.zeros(batches * self._each, channels)
        self._rows = self._filled = 0

    def add(self, value: Tensor, axis: int) -> None:
        """One batch; ``axis`` counts the channels."""
        rows = value.detach().movedim(axis, -1).reshape(-1, value.shape[axis])
        self._rows += len(rows)
        self._peak.copy_(torch.maximum(self._peak, rows.abs().amax(0)))
        self._sum += rows.abs().sum(0, dtype=torch.float64)
        seen = _evenly(rows, _LOOKED_AT).float()
        cut = int(TAIL * (len(seen) - 1))
        self._low += seen.kthvalue(cut + 1, dim=0).values
        self._high += seen.kthvalue(len(seen) - cut, dim=0).values
        few = _evenly(rows, self._each)
        self._kept[self._filled : self._filled + len(few)] = few
        self._filled += len(few)

    def channels(self) -> Channels:
        return Channels(
            peak=self._peak,
            mean=self._sum / self._rows,
            low=self._low / self._batches,
            high=self._high / self._batches,
            rows=self._kept[: self._filled],
        )


def _evenly(rows: Tensor, most: int) -> Tensor:
    """At most ``most`` of the rows, from all over."""
    return rows[:: max(-(-len(rows) // most), 1)]
