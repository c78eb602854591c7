"""Every change this program makes to a disk goes through one object.

What must survive a crash can then be tested by exhaustion: a disk that fails or stops at its n-th
call is handed in, for every n.
"""

import os
from pathlib import Path


class Disk:
    """The real disk. Every method is one step that may fail (``OSError``) or be the last."""

    def create(self, path: Path) -> int:
        """Open a new file for writing; one that exists, a link too, is an error."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)

    def write(self, descriptor: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]

    def sync(self, descriptor: int) -> None:
        """Wait until the bytes are on the disk. A failure means they may never be."""
        os.fsync(descriptor)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Atomic; ``target`` is replaced if it is a file or an empty directory."""
        source.replace(target)

    def sync_directory(self, path: Path) -> None:
        """Wait until the names in ``path`` are on the disk."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def make_directory(self, path: Path) -> None:
        """Make ``path`` and what is missing above it."""
        path.mkdir(parents=True, exist_ok=True)

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def remove_directory(self, path: Path) -> None:
        path.rmdir()
