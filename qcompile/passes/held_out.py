"""Which calibration batches take part in a fit, and which judge it."""

from collections.abc import Sequence
from itertools import accumulate

from qcompile.data.groups import JUDGING

ONE_BATCH = "one batch: it was fitted and judged"
"""For the report."""


def split(batches: int, judging: int | None = None) -> tuple[list[int], list[int]]:
    """Batches of the fit and of the guard; with a single batch they are the same.

    ``judging`` of them, the last, are kept from the fit and decide what is kept; ``None``: one in
    eight, at least one.
    """
    held = max(batches // JUDGING, 1) if judging is None else judging
    numbers = list(range(batches))
    return (numbers[:-held], numbers[-held:]) if batches > 1 else (numbers, numbers)


def leading(samples: int | None, batch_sizes: Sequence[int]) -> int:
    """How many batches, from the first on, hold no more than ``samples``: at least one."""
    if samples is None:
        return len(batch_sizes)
    return max(sum(total <= samples for total in accumulate(batch_sizes)), 1)
