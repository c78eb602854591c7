"""The state of a run: what is finished, in a form that survives a crash at any moment.

A unit is committed by writing its payloads and then a new manifest; the manifest alone says what
is finished. The previous manifest stays beside it, and so do the chain payloads that it needs, so
that one damaged file costs one unit and never silently the run.
"""

import json
import os
import socket
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.store.atomic import TEMPORARY, remove_tree, write_failed, write_file
from qcompile.store.canonical import canonical_json, sha256_hex
from qcompile.store.disk import Disk
from qcompile.store.run_manifest import (
    Payload,
    RunManifest,
    UnitEntry,
    manifest_bytes,
    read_manifest,
)

CURRENT = "manifest.json"
PREVIOUS = "manifest.prev.json"
UNITS = "units"
LOCK = "lock"
HOLDER = "holder.json"
FINISHED = f"{TEMPORARY}finished-"
GENERATIONS = 2
"""Manifests whose chain payloads are kept."""


class RunState:
    """One run directory, locked by this process until ``close`` or ``finish``.

    Invariants: every payload that the current manifest names is on the disk in full; ``completed``
    is the order in which units were committed; a unit is committed once.
    """

    def __init__(self, directory: Path, disk: Disk, lock: FileLock, manifest: RunManifest) -> None:
        """Take over a directory that ``open`` has locked and read."""
        self._directory = directory
        self._disk = disk
        self._lock = lock
        self._manifest = manifest

    @classmethod
    def open(
        cls, directory: Path, identity: dict[str, str], disk: Disk
    ) -> "RunState | list[Diagnostic]":
        """Start a run in ``directory`` or go on with the one there; nothing else is changed."""
        directory = Path(os.path.abspath(directory))
        try:
            disk.make_directory(directory / UNITS)
            lock = FileLock(directory / LOCK)
            lock.acquire(blocking=False)
        except Timeout:
            return [_locked(directory)]
        except OSError as error:
            return [write_failed(directory, error, 0)]
        try:
            manifest = _enter(directory, identity, disk)
        except BaseException:
            lock.release()
            raise
        if not isinstance(manifest, RunManifest):
            lock.release()
            return manifest
        return cls(directory, disk, lock, manifest)

    def __enter__(self) -> Self:
        """Give the state itself: the lock is held already."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Release the lock; the state stays for a later ``open``."""
        self.close()

    @property
    def completed(self) -> tuple[str, ...]:
        return tuple(entry.unit for entry in self._manifest.units)

    def commit(self, unit: str, result: bytes, chain: bytes) -> list[Diagnostic]:
        """Make ``unit`` finished. ``chain`` is what the next unit starts from.

        After an error the state is as before the call, on the disk and in memory.
        """
        if unit in self.completed:
            raise ValueError(f"unit {unit} is committed already")
        number = len(self._manifest.units)
        entry = UnitEntry(
            unit=unit,
            result=Payload.of(number, "safetensors", result),
            chain=Payload.of(number, "chain", chain),
        )
        manifest = self._manifest.followed_by(entry)
        writes = (
            (self._path(entry.result), result),
            (self._path(entry.chain), chain),
            (self._directory / PREVIOUS, manifest_bytes(self._manifest)),
            (self._directory / CURRENT, manifest_bytes(manifest)),
        )
        for path, data in writes:
            failed = write_file(self._disk, path, data)
            if failed:
                return failed
        self._manifest = manifest
        self._forget_old_chains()
        return []

    def load(self, unit: str) -> bytes | list[Diagnostic]:
        """Return the result of a completed unit, checked against its hash."""
        return self._read(unit, self._entry(unit).result)

    def load_chain(self, unit: str) -> bytes | list[Diagnostic]:
        """Return the chain payload of one of the last two completed units, checked."""
        return self._read(unit, self._entry(unit).chain)

    def finish(self) -> list[Diagnostic]:
        """Remove the run: its result has been published."""
        gone = self._directory.with_name(f"{FINISHED}{self._directory.name}")
        try:
            remove_tree(self._disk, gone)
            self._disk.rename(self._directory, gone)
            self._disk.sync_directory(gone.parent)
            remove_tree(self._disk, gone)
        except OSError as error:
            return [write_failed(self._directory, error, 0)]
        finally:
            self.close()
        return []

    def close(self) -> None:
        self._lock.release()

    def _entry(self, unit: str) -> UnitEntry:
        return next(entry for entry in self._manifest.units if entry.unit == unit)

    def _path(self, payload: Payload) -> Path:
        return self._directory / UNITS / payload.file

    def _read(self, unit: str, payload: Payload) -> bytes | list[Diagnostic]:
        path = self._path(payload)
        try:
            if path.stat().st_size != payload.size:
                return [_corrupt(path, f"has another size than when `{unit}` was committed")]
            data = path.read_bytes()
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            return [_corrupt(path, f"of `{unit}` cannot be read: {reason}")]
        if sha256_hex(data) != payload.sha256:
            return [_corrupt(path, f"has other bytes than when `{unit}` was committed")]
        return data

    def _forget_old_chains(self) -> None:
        """Remove what neither manifest needs; what cannot be removed now is tried again later."""
        for entry in self._manifest.units[:-GENERATIONS]:
            path = self._path(entry.chain)
            with suppress(OSError):
                if path.exists():
                    self._disk.remove(path)


def _enter(directory: Path, identity: dict[str, str], disk: Disk) -> RunManifest | list[Diagnostic]:
    """With the lock held: say who holds it, sweep temporary files, read or start the manifest."""
    failed = write_file(disk, directory / HOLDER, _this_process()) or _sweep(directory, disk)
    if failed:
        return failed
    found = _newest_manifest(directory)
    if isinstance(found, list):
        return found
    if found is not None:
        return _other_identity(directory, found.identity, identity) or found
    fresh = RunManifest(identity=identity)
    failed = write_file(disk, directory / CURRENT, manifest_bytes(fresh))
    return failed or fresh


def _this_process() -> bytes:
    start = datetime.now(UTC).isoformat(timespec="seconds")
    return canonical_json({"pid": os.getpid(), "host": socket.gethostname(), "start": start})


def _sweep(directory: Path, disk: Disk) -> list[Diagnostic]:
    for place in (directory, directory / UNITS):
        try:
            for leftover in sorted(place.glob(f"{TEMPORARY}*")):
                remove_tree(disk, leftover)
        except OSError as error:
            return [write_failed(place, error, 0)]
    return []


def _newest_manifest(directory: Path) -> RunManifest | list[Diagnostic] | None:
    """Return the current manifest, else the previous one; ``None`` where no run ever began."""
    current, previous = directory / CURRENT, directory / PREVIOUS
    read = read_manifest(current)
    if isinstance(read, RunManifest):
        return read
    older = read_manifest(previous)
    if isinstance(older, RunManifest):
        return older
    began = any(path.exists() for path in (current, previous)) or any((directory / UNITS).iterdir())
    return [_corrupt(current, read)] if began else None


def _other_identity(
    directory: Path, before: dict[str, str], now: dict[str, str]
) -> list[Diagnostic]:
    names = sorted({*before, *now})
    return [
        _different(directory, name, before.get(name), now.get(name))
        for name in names
        if before.get(name) != now.get(name)
    ]


def _different(directory: Path, name: str, before: str | None, now: str | None) -> Diagnostic:
    """QR907."""
    return Diagnostic(
        Code.CORRUPT_RUN_STATE,
        f"the run was started with another `{name}`",
        subject=str(directory),
        notes=(f"then `{before or 'absent'}`, now `{now or 'absent'}`",),
        help=f"restore `{name}`, or start a new run in another directory",
    )


def _corrupt(path: Path, why: str) -> Diagnostic:
    """QR907."""
    return Diagnostic(
        Code.CORRUPT_RUN_STATE,
        f"`{path.name}` {why}",
        subject=str(path),
        help="nothing was changed; restore the file, or remove the directory to begin again",
    )


def _locked(directory: Path) -> Diagnostic:
    """QR906."""
    holder = _holder(directory / HOLDER)
    return Diagnostic(
        Code.RUN_LOCKED,
        "the run is in use by another process",
        subject=str(directory),
        notes=(holder,) if holder else (),
        help="wait for it to end, or stop it",
    )


def _holder(path: Path) -> str:
    """Say in words who has the lock; empty in the moment between locking and saying so."""
    try:
        told: object = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return ""
    match told:
        case {"pid": int(pid), "host": str(host), "start": str(start)}:
            return f"process {pid} on `{host}` has held it since {start}"
        case _:
            return ""
