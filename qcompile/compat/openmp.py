"""The threads of torch's own operations, for machine code beside them.

A pool of one's own would wait for processors on which these spin.
"""

import ctypes
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch


@dataclass(frozen=True, slots=True)
class Team:
    start: Callable[..., None]
    """``(function, argument, threads, 0)``: calls it in each thread, and waits for all. There may
    be fewer threads than asked for."""
    number_of_thread: int
    """Address of a function that gives the caller's number as 32 bits."""
    number_of_threads: int
    """Address of one that gives how many there are."""


@cache
def team() -> Team | None:
    """``None`` where torch has no GNU OpenMP, nor what takes its place."""
    if sys.platform == "win32" or not torch.backends.openmp.is_available():
        return None
    process = ctypes.CDLL(None)
    try:
        start = process.GOMP_parallel
        asked = process.omp_get_thread_num, process.omp_get_num_threads
    except AttributeError:
        return None
    start.restype = None
    start.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    one, all_ = (ctypes.cast(function, ctypes.c_void_p).value or 0 for function in asked)
    return Team(start, one, all_)
