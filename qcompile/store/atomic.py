"""A file or a directory appears whole or not at all."""

import errno
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import cast

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.store.disk import Disk

TEMPORARY = ".tmp-"
"""Prefix of everything that is not finished; whoever finds one may remove it."""
ASIDE = ".old-"
"""Prefix of a directory that makes room for its successor."""
MANIFEST = "manifest.json"
ARTIFACT_KIND = "qcompile-artifact"
MAX_MANIFEST_BYTES = 64 << 20


def write_file(disk: Disk, path: Path, data: bytes) -> list[Diagnostic]:
    """Write ``data`` so that after a crash ``path`` holds the old bytes or the new ones."""
    temporary = path.with_name(f"{TEMPORARY}{path.name}")
    try:
        disk.remove(temporary)
        _write_new(disk, temporary, data)
        disk.rename(temporary, path)
        disk.sync_directory(path.parent)
    except OSError as error:
        with suppress(OSError):
            disk.remove(temporary)
        return [write_failed(path, error, len(data))]
    return []


def publish_files(
    disk: Disk, final: Path, files: Mapping[str, bytes], replace: bool = False
) -> list[Diagnostic]:
    """Write ``files`` (by path relative to ``final``) as one directory that appears at once."""
    final = Path(os.path.abspath(final))
    refused = check_free(final, replace)
    if refused:
        return refused
    staging = final.with_name(f"{TEMPORARY}{final.name}")
    try:
        remove_tree(disk, staging)
        _stage(disk, staging, files)
    except OSError as error:
        _drop(disk, staging)
        return [write_failed(final, error, sum(map(len, files.values())))]
    return publish_directory(disk, staging, final, replace)


def publish_directory(
    disk: Disk, staging: Path, final: Path, replace: bool = False
) -> list[Diagnostic]:
    """Rename ``staging``, a sibling of ``final`` whose files are synced, to ``final``.

    With ``replace`` an artifact of ours that is there moves to ``.old-*`` first, and back should
    the second rename fail; after a crash between the two the next call moves it back. When nothing
    is published ``staging`` is removed.
    """
    final = Path(os.path.abspath(final))
    aside = final.with_name(f"{ASIDE}{final.name}")
    try:
        _settle(disk, final, aside)
        refused = check_free(final, replace)
        if refused:
            _drop(disk, staging)
            return refused
        if _holds_something(final):
            disk.rename(final, aside)
        disk.rename(staging, final)
        disk.sync_directory(final.parent)
    except OSError as error:
        _drop(disk, staging)
        with suppress(OSError):
            _settle(disk, final, aside)
        return [write_failed(final, error, 0)]
    _drop(disk, aside)
    return []


def check_free(final: Path, replace: bool = False) -> list[Diagnostic]:
    """Say whether an artifact may be written to ``final``, before any work is done for it."""
    if final.is_symlink() or (final.exists() and not final.is_dir()):
        return [_occupied(final, "is not a directory")]
    if not _holds_something(final):
        return []
    if not is_artifact(final):
        return [_occupied(final, "holds files that are not an artifact")]
    return [] if replace else [_occupied(final, "holds an artifact already")]


def check_new_file(path: Path, replace: bool = False) -> list[Diagnostic]:
    """Say whether a file may be written to ``path``, before any work is done for it."""
    try:
        if path.is_dir() and not path.is_symlink():
            return [_occupied(path, "is a directory", "name a file")]
        if os.path.lexists(path) and not replace:
            return [_occupied(path, "exists already", "choose another name, or add `--replace`")]
    except (OSError, ValueError) as error:
        return [_occupied(path, f"cannot be written: {error}", "choose another name")]
    return []


def is_artifact(directory: Path) -> bool:
    """Tell by its manifest whether we wrote ``directory``."""
    manifest = directory / MANIFEST
    try:
        if manifest.stat().st_size > MAX_MANIFEST_BYTES:
            return False
        document: object = json.loads(manifest.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return (
        isinstance(document, dict)
        and cast("dict[str, object]", document).get("kind") == ARTIFACT_KIND
    )


def remove_tree(disk: Disk, path: Path) -> None:
    """Remove ``path`` and everything in it; links are removed, never followed.

    The manifest goes last, so that an artifact half removed is still known as ours.
    """
    if not path.is_dir() or path.is_symlink():
        if os.path.lexists(path):
            disk.remove(path)
        return
    for inside in sorted(path.iterdir(), key=lambda inside: (inside.name == MANIFEST, inside)):
        remove_tree(disk, inside)
    disk.remove_directory(path)


def _stage(disk: Disk, staging: Path, files: Mapping[str, bytes]) -> None:
    directories = {staging}
    disk.make_directory(staging)
    for name in sorted(files):
        path = staging / name
        if path.parent not in directories:
            disk.make_directory(path.parent)
            directories.add(path.parent)
        _write_new(disk, path, files[name])
    for directory in sorted(directories, reverse=True):
        disk.sync_directory(directory)


def _write_new(disk: Disk, path: Path, data: bytes) -> None:
    descriptor = disk.create(path)
    try:
        disk.write(descriptor, data)
        disk.sync(descriptor)
    except OSError:
        with suppress(OSError):
            disk.close(descriptor)
        raise
    disk.close(descriptor)


def _settle(disk: Disk, final: Path, aside: Path) -> None:
    """Undo or finish a replacement that stopped half-way."""
    if not is_artifact(aside):
        return
    if _holds_something(final):
        remove_tree(disk, aside)
    else:
        disk.rename(aside, final)


def _drop(disk: Disk, path: Path) -> None:
    """Remove what is no longer needed; what cannot be removed now is removed by a later call."""
    with suppress(OSError):
        remove_tree(disk, path)


def _holds_something(path: Path) -> bool:
    return path.is_dir() and any(path.iterdir())


def _occupied(
    path: Path, why: str, way_out: str = "choose an empty or new directory"
) -> Diagnostic:
    """QR901."""
    return Diagnostic(
        Code.OUTPUT_OCCUPIED,
        f"the output `{path.name}` {why}",
        subject=str(path),
        help=way_out,
    )


def write_failed(path: Path, error: OSError, needed: int) -> Diagnostic:
    """QR905."""
    reason = (error.strerror or str(error)).lower()
    notes: tuple[str, ...] = ()
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        notes = (f"{needed} bytes are needed, {_free_bytes(path)} are free",)
    return Diagnostic(
        Code.WRITE_FAILED,
        f"`{path.name}` cannot be written: {reason}",
        subject=os.fspath(path),
        notes=notes,
        help="what was written before is whole; mend the disk and run the command again",
    )


def _free_bytes(path: Path) -> str:
    for place in path.parents:
        with suppress(OSError):
            return str(shutil.disk_usage(place).free)
    return "unknown"
