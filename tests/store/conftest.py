import errno
import os
from contextlib import suppress

import pytest

from qcompile.store.disk import Disk


class PowerCut(BaseException):
    """The process is gone: no handler for ordinary errors sees it."""


class FaultyDisk(Disk):
    """A disk whose ``at``-th call (0-based) does not succeed; counts calls in ``calls``.

    ``cut`` ends the process before the call and at every call after it; with ``torn`` half of the
    bytes of a write reach the disk first. ``error`` (an errno) fails that one call, or with
    ``lasting`` all calls of that name from then on.
    """

    def __init__(self, at=None, *, cut=False, torn=False, error=None, lasting=False):
        self.at, self.cut, self.torn, self.error, self.lasting = at, cut, torn, error, lasting
        self.calls = 0
        self.names = []
        self.failing = None
        self.open = set()

    def _step(self, name):
        index, self.calls = self.calls, self.calls + 1
        self.names.append(name)
        if self.at is None:
            return
        if self.cut and index >= self.at:
            for descriptor in self.open:
                with suppress(OSError):
                    os.close(descriptor)
            self.open.clear()
            raise PowerCut
        if self.error and (index == self.at or (self.lasting and name == self.failing)):
            self.failing = name
            raise OSError(self.error, os.strerror(self.error))

    def create(self, path):
        self._step("create")
        descriptor = super().create(path)
        self.open.add(descriptor)
        return descriptor

    def write(self, descriptor, data):
        if self.torn and self.calls == self.at:
            super().write(descriptor, data[: len(data) // 2])
        self._step("write")
        super().write(descriptor, data)

    def sync(self, descriptor):
        self._step("sync")

    def close(self, descriptor):
        self._step("close")
        self.open.discard(descriptor)
        super().close(descriptor)

    def rename(self, source, target):
        self._step("rename")
        super().rename(source, target)

    def sync_directory(self, path):
        self._step("sync_directory")

    def make_directory(self, path):
        self._step("make_directory")
        super().make_directory(path)

    def remove(self, path):
        self._step("remove")
        super().remove(path)

    def remove_directory(self, path):
        self._step("remove_directory")
        super().remove_directory(path)


@pytest.fixture
def faulty_disk():
    return FaultyDisk


@pytest.fixture
def power_cut():
    return PowerCut


@pytest.fixture(params=[errno.ENOSPC, errno.EIO, errno.EACCES], ids=["ENOSPC", "EIO", "EACCES"])
def disk_error(request):
    return request.param
