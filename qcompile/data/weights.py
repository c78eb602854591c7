"""Weights by name, read one tensor at a time."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, cast

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from qcompile.data.weight_file import (
    TensorEntry,
    read_header,
    unreadable_file,
    weight_file,
)
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.failure import CompileError

INDEX_SUFFIX = ".index.json"
MAX_INDEX = 100_000_000


@dataclass(frozen=True, slots=True)
class StoredTensor:
    dtype: torch.dtype
    shape: tuple[int, ...]


class WeightSource(Protocol):
    """``tensor`` and ``sha256`` raise ``CompileError`` (QR522) if the file changed underneath."""

    @property
    def names(self) -> tuple[str, ...]:
        """Sorted."""
        ...

    def stored(self, name: str) -> StoredTensor: ...

    def tensor(self, name: str) -> Tensor: ...

    def sha256(self, name: str) -> str:
        """Over the raw little-endian bytes."""
        ...


@dataclass(frozen=True, slots=True)
class FileWeights:
    """One safetensors file or several; each tensor is read when it is asked for."""

    entries: Mapping[str, tuple[Path, TensorEntry]]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self.entries))

    def stored(self, name: str) -> StoredTensor:
        _, entry = self.entries[name]
        return StoredTensor(entry.dtype, entry.shape)

    def tensor(self, name: str) -> Tensor:
        _, entry = self.entries[name]
        if entry.size == 0:
            return torch.empty(entry.shape, dtype=entry.dtype)
        return torch.frombuffer(self._bytes(name), dtype=entry.dtype).reshape(entry.shape)

    def sha256(self, name: str) -> str:
        return hashlib.sha256(self._bytes(name)).hexdigest()

    def _bytes(self, name: str) -> bytearray:
        path, entry = self.entries[name]
        buffer = bytearray(entry.size)
        try:
            with path.open("rb") as file:
                file.seek(entry.start)
                count = file.readinto(buffer)
        except OSError as error:
            raise CompileError([weight_file(path, f"cannot be read: {error.strerror}")]) from error
        if count != entry.size:
            raise CompileError([weight_file(path, f"ends inside `{name}`: it changed meanwhile")])
        return buffer


@dataclass(frozen=True, slots=True)
class MemoryWeights:
    """Tensors that exist already; on the meta device they have a shape, but no bytes."""

    tensors: Mapping[str, Tensor]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self.tensors))

    def stored(self, name: str) -> StoredTensor:
        tensor = self.tensors[name]
        return StoredTensor(tensor.dtype, tuple(tensor.shape))

    def tensor(self, name: str) -> Tensor:
        return self.tensors[name]

    def sha256(self, name: str) -> str:
        return hashlib.sha256(tensor_bytes(self.tensors[name])).hexdigest()


class _Index(BaseModel):
    """``model.safetensors.index.json``: which file holds which tensor."""

    model_config = ConfigDict(strict=True, frozen=True)

    weight_map: dict[str, str]


def open_weights(path: Path) -> WeightSource | Diagnostic:
    """A safetensors file or the index of several; every header is checked before any use."""
    if path.name.endswith(INDEX_SUFFIX):
        return _open_index(path)
    entries = read_header(path)
    if isinstance(entries, Diagnostic):
        return entries
    return FileWeights(MappingProxyType({entry.name: (path, entry) for entry in entries}))


def tensor_bytes(tensor: Tensor) -> memoryview:
    """The elements in row-major order; no copy if they lie so already."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return cast("np.ndarray[tuple[int], np.dtype[np.uint8]]", flat.view(torch.uint8).numpy()).data


def weights_sha256(source: WeightSource) -> str:
    """One hash over name, type, shape and content of all tensors; independent of the file."""
    root = hashlib.sha256()
    for name in source.names:
        stored = source.stored(name)
        row = [name, str(stored.dtype), stored.shape, source.sha256(name)]
        root.update(json.dumps(row).encode() + b"\n")
    return root.hexdigest()


def _open_index(path: Path) -> WeightSource | Diagnostic:
    index = _read_index(path)
    if isinstance(index, Diagnostic):
        return index
    shards: dict[str, dict[str, TensorEntry]] = {}
    for file in sorted(set(index.weight_map.values())):
        if Path(file).name != file:
            return weight_file(path, f"names a shard outside its own folder: `{file}`")
        entries = read_header(path.parent / file)
        if isinstance(entries, Diagnostic):
            return entries
        shards[file] = {entry.name: entry for entry in entries}
    found: dict[str, tuple[Path, TensorEntry]] = {}
    for name, file in index.weight_map.items():
        if name not in shards[file]:
            return weight_file(path, f"says that `{name}` is in `{file}`, which has no such tensor")
        found[name] = (path.parent / file, shards[file][name])
    return FileWeights(MappingProxyType(found))


def _read_index(path: Path) -> _Index | Diagnostic:
    problem = unreadable_file(path)
    if problem is not None:
        return problem
    try:
        if path.stat().st_size > MAX_INDEX:
            return weight_file(path, f"is larger than {MAX_INDEX} bytes")
        return _Index.model_validate_json(path.read_bytes())
    except OSError as error:
        return weight_file(path, f"cannot be read: {error.strerror}")
    except ValidationError as error:
        return weight_file(path, f"is not a shard index: {error.errors()[0]['msg'].lower()}")
