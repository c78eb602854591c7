"""The tensors that stayed in float: all there, none besides, and the bytes of the original."""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from qcompile.audit.findings import MalformedError, broken_promise
from qcompile.audit.strict_json import Table, field, naturals, optional, tables
from qcompile.audit.tensor_file import StoredTensor, tensors
from qcompile.diagnostics.diagnostic import Diagnostic

NAMES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "uint32": "U32",
    "int32": "I32",
    "uint64": "U64",
    "int64": "I64",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
    "complex64": "C64",
}
"""Of torch, and of the file."""


@dataclass(frozen=True, slots=True)
class Owned:
    """A tensor that the graph reads; ``stored_as`` another name where it is tied."""

    name: str
    stored_as: str
    dtype: str
    shape: tuple[int, ...]
    persistent: bool

    @property
    def is_kept(self) -> bool:
        """Under its own name; a tied one lies under that of another."""
        return self.name == self.stored_as


def owned_by(graph: Table) -> tuple[Owned, ...]:
    return tuple(
        Owned(
            name=field(record, "name", str),
            stored_as=optional(record, "alias", str) or field(record, "name", str),
            dtype=field(record, "dtype", str),
            shape=naturals(record, "shape"),
            persistent=field(record, "persistent", bool),
        )
        for record in tables(graph, "tensors")
    )


def audit_floats(
    owned: Sequence[Owned],
    stored: Mapping[str, StoredTensor],
    quantized: Set[str],
    of_lines: Set[str],
) -> Iterator[Diagnostic]:
    """``quantized`` are storages that exist as codes, ``of_lines`` all tensors of plan lines."""
    kept = {item.name: item for item in owned if item.is_kept}
    for name in sorted(kept.keys() - quantized):
        yield from _form(kept[name], stored.get(name))
    copies = quantized | {item.name for item in owned if item.stored_as in quantized}
    for name in sorted(stored.keys() - of_lines - (kept.keys() - quantized)):
        what = "is a float copy of a quantized weight" if name in copies else "is in no plan"
        yield broken_promise(f"`{name}` {what}", name)
    for name in sorted(quantized - kept.keys()):
        yield broken_promise(f"the graph does not read `{name}`", name)


def audit_untouched(
    owned: Sequence[Owned],
    stored: Mapping[str, StoredTensor],
    rewritten: Sequence[str],
    weights: Sequence[Path],
) -> Iterator[Diagnostic]:
    """Compare with the files that the model was loaded from, byte for byte.

    Left out is what a transform of the plan rewrote, and what is made by the model's constructor.
    """
    original: dict[str, StoredTensor] = {}
    for path in weights:
        try:
            original |= tensors(path.read_bytes())
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            yield broken_promise(f"`{path.name}` cannot be read: {reason}", str(path))
            return
        except MalformedError as error:
            yield broken_promise(f"`{path.name}` {error}", str(path))
            return
    for item in owned:
        if item.name not in stored or not item.is_kept or not item.persistent:
            continue
        if item.name in rewritten or item.name.rpartition(".")[0] in rewritten:
            continue
        names = [other.name for other in owned if other.stored_as == item.name]
        found = next((original[name] for name in names if name in original), None)
        if found is None:
            yield broken_promise(f"`{item.name}` is in none of the given weights", item.name)
        elif (found.dtype, found.data) != (stored[item.name].dtype, stored[item.name].data):
            yield broken_promise(f"`{item.name}` has not the bytes of the weights", item.name)


def _form(item: Owned, found: StoredTensor | None) -> Iterator[Diagnostic]:
    if found is None:
        yield broken_promise(f"`{item.name}` is missing", item.name)
        return
    wanted = NAMES.get(item.dtype, item.dtype)
    if (found.dtype, found.shape) != (wanted, item.shape):
        is_now = f"`{item.name}` is {found.dtype}{list(found.shape)}"
        yield broken_promise(f"{is_now}, planned {wanted}{list(item.shape)}", item.name)
