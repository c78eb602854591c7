"""Weight files: what may be opened at all, and the tensors that a checked header describes."""

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.suggest import did_you_mean
from qcompile.store.safetensors_header import Entry, Header
from qcompile.store.safetensors_header import read_header as read_checked

PICKLE_SUFFIXES = frozenset({".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle"})
PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")

DTYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {
        "BOOL": torch.bool,
        "U8": torch.uint8,
        "I8": torch.int8,
        "U16": torch.uint16,
        "I16": torch.int16,
        "U32": torch.uint32,
        "I32": torch.int32,
        "U64": torch.uint64,
        "I64": torch.int64,
        "F8_E4M3": torch.float8_e4m3fn,
        "F8_E5M2": torch.float8_e5m2,
        "F8_E8M0": torch.float8_e8m0fnu,
        "F16": torch.float16,
        "BF16": torch.bfloat16,
        "F32": torch.float32,
        "F64": torch.float64,
        "C64": torch.complex64,
    }
)


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """Where a tensor lies: bytes ``[start, end)`` of the file."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.start


def read_header(path: Path) -> list[TensorEntry] | Diagnostic:
    """All tensors of the file in the order of their bytes; nothing but the header is read."""
    problem = unreadable_file(path)
    if problem is not None:
        return problem
    header = read_checked(path)
    if isinstance(header, Header):
        return [_entry(entry) for entry in header.entries]
    return pickle_refused(path) if _looks_like_a_pickle(path) else weight_file(path, header)


def _entry(entry: Entry) -> TensorEntry:
    return TensorEntry(entry.name, DTYPES[entry.dtype], entry.shape, entry.begin, entry.end)


def _looks_like_a_pickle(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(8).startswith(PICKLE_STARTS)
    except OSError:
        return False


def unreadable_file(path: Path) -> Diagnostic | None:
    """A problem that shows without opening the file; a pipe would block for ever."""
    if path.suffix in PICKLE_SUFFIXES:
        return pickle_refused(path)
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return missing_file(path)
    return None if stat.S_ISREG(mode) else weight_file(path, "is not a regular file")


def weight_file(path: Path, reason: str, way_out: str | None = None) -> Diagnostic:
    """QR522: the file cannot be read, or is not what it says."""
    return Diagnostic(
        Code.WEIGHT_FILE, f"weight file `{path.name}` {reason}", subject=str(path), help=way_out
    )


def missing_file(path: Path) -> Diagnostic:
    """QR522: no such file."""
    beside = [item.name for item in path.parent.iterdir()] if path.parent.is_dir() else []
    return weight_file(path, "does not exist", did_you_mean(path.name, beside))


def pickle_refused(path: Path) -> Diagnostic:
    """QR522: a pickle can run code when it is opened, so it never is."""
    return weight_file(
        path,
        "is a pickle, which may run code when it is opened",
        "convert it where you trust it, with `safetensors.torch.save_file(state_dict, file)`",
    )
