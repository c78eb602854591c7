"""Memory between blocks in use goes back to the system."""

import platform

import pytest

from qcompile.compat import heap
from qcompile.compat.heap import give_back_freed
from qcompile.driver.process_memory import resident_bytes

SIZE = 64 << 10
"""Small enough to come from the heap."""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc alone")
def test_holes_are_given_back():
    blocks = [bytearray(SIZE) for _ in range(2000)]
    kept = blocks[::2]
    del blocks
    before = resident_bytes()
    give_back_freed()
    assert before - resident_bytes() > len(kept) * SIZE / 2


def test_a_library_without_the_call_is_left_alone(monkeypatch):
    monkeypatch.setattr(heap, "_trim", lambda: None)
    give_back_freed()
