"""Tests compute with one thread each: last bits of a sum depend on how many there are."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
