"""Which calibration batches take part in a fit, and which judge it."""

from collections.abc import Sequence
from itertools import accumulate

HELD_OUT = 8
"""One batch in eight, at least one, is kept from the fit and decides what is kept."""

ONE_BATCH = "one batch: it was fitted and judged"
"""For the report."""


def split(batches: int) -> tuple[list[int], list[int]]:
    """Batches of the fit and of the guard; with a single batch they are the same."""
    held = max(batches // HELD_OUT, 1)
    numbers = list(range(batches))
    return (numbers[:-held], numbers[-held:]) if batches > 1 else (numbers, numbers)


def leading(samples: int | None, batch_sizes: Sequence[int]) -> int:
    """How many batches, from the first on, hold no more than ``samples``: at least one."""
    if samples is None:
        return len(batch_sizes)
    return max(sum(total <= samples for total in accumulate(batch_sizes)), 1)
