"""Streams of codes, read bit by bit."""

from collections.abc import Iterator, Sequence

import numpy as np

Codes = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
WHOLE_BYTE = 8
PIECE = 1 << 13
"""Bytes of each of the ``bits`` parts that are unpacked at once: a bit becomes a byte."""


def bits_behind(stream: memoryview, used: int) -> bool:
    """Whether any bit of the last byte is set behind the first ``used`` bits of the stream."""
    last = np.unpackbits(np.frombuffer(stream[-1:], "u1"), bitorder="little")
    return bool(last[(used - 1) % 8 + 1 :].any())


def all_codes(stream: memoryview, bits: int, count: int) -> Codes:
    """The first ``count`` codes, a byte each."""
    if bits == WHOLE_BYTE:
        return np.frombuffer(stream, "u1", count)
    return np.concatenate([np.empty(0, "u1"), *_pieces(stream, bits, count)])


def has_code(stream: memoryview, bits: int, count: int, codes: Sequence[int]) -> bool:
    """Whether one of ``codes`` is among the first ``count`` of the stream."""
    if not codes:
        return False
    return any(bool(np.isin(found, codes).any()) for found in _pieces(stream, bits, count))


def _pieces(stream: memoryview, bits: int, count: int) -> Iterator[Codes]:
    piece, held = PIECE * bits, PIECE * 8
    places = (1 << np.arange(bits)).astype("u1")
    for start in range(0, len(stream), piece):
        flat = np.unpackbits(np.frombuffer(stream[start : start + piece], "u1"), bitorder="little")
        number = min(held, count - start // bits * 8)
        yield flat[: number * bits].reshape(number, bits) @ places
