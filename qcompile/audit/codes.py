"""Streams of codes, read bit by bit."""

from collections.abc import Sequence

import numpy as np

PIECE = 1 << 13
"""Bytes of each of the ``bits`` parts that are unpacked at once: a bit becomes a byte."""


def bits_behind(stream: memoryview, used: int) -> bool:
    """Whether any bit of the last byte is set behind the first ``used`` bits of the stream."""
    last = np.unpackbits(np.frombuffer(stream[-1:], "u1"), bitorder="little")
    return bool(last[(used - 1) % 8 + 1 :].any())


def has_code(stream: memoryview, bits: int, count: int, codes: Sequence[int]) -> bool:
    """Whether one of ``codes`` is among the first ``count`` of the stream."""
    if not codes:
        return False
    piece, held = PIECE * bits, PIECE * 8
    places = 1 << np.arange(bits)
    for start in range(0, len(stream), piece):
        flat = np.unpackbits(np.frombuffer(stream[start : start + piece], "u1"), bitorder="little")
        number = min(held, count - start // bits * 8)
        found = flat[: number * bits].reshape(number, bits) @ places
        if np.isin(found, codes).any():
            return True
    return False
