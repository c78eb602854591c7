"""What each number format of a plan puts into the tensor file, beside its codes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from qcompile.audit.findings import MalformedError
from qcompile.audit.strict_json import Table, field, tables

Scale = Literal["normal", "positive", "e8m0", "e4m3"]
"""How one is stored: F32 of either kind, or one byte: a power of two, or a small float."""

BLOCK_BITS = {"mxfp8": 8, "mxfp6": 6, "mxfp4": 4, "nvfp4": 4}
NOT_NUMBERS = {"e4m3": (0x7F, 0xFF), "e5m2": (*range(0x7C, 0x80), *range(0xFC, 0x100))}
"""Patterns of an element that are infinite or no number."""


@dataclass(frozen=True, slots=True)
class Grid:
    """One number format; a sum has one for each of its terms."""

    bits: int
    scale: Scale
    parameters: tuple[tuple[str, int], ...] = ()
    """Further F32 tensors of the whole weight: name and length."""
    unused: Sequence[int] = ()
    """Codes that stand for no number."""
    is_integer: bool = False
    lowest: int = 0
    """The integer that code 0 stands for on a symmetric grid."""


def grids(form: Table) -> tuple[Grid, ...]:
    """Raise ``MalformedError`` for a format that is not in ``docs/format.md``."""
    if form.get("kind") != "sum":
        return (_grid(form),)
    return tuple(_grid(term) for term in tables(form, "terms"))


def _grid(form: Table) -> Grid:
    match field(form, "kind", str):
        case "int":
            bits = _bits(form)
            lowest = -(1 << bits - 1) if field(form, "signed", bool) else 0
            return Grid(bits, "normal", is_integer=True, lowest=lowest)
        case "power":
            bits = _bits(form)
            stored = (("exponent", 1),) if form.get("exponent") is None else ()
            return Grid(bits, "positive", stored, unused=((1 << bits) - 1,))
        case "log":
            return Grid(_bits(form), "positive")
        case "nf4":
            return Grid(4, "positive")
        case "codebook":
            bits = _bits(form)
            return Grid(bits, "positive", (("levels", 1 << bits),))
        case "minifloat":
            element = field(form, "element", str)
            return Grid(_element_bits(element), "positive", unused=NOT_NUMBERS.get(element, ()))
        case "block":
            return _block(field(form, "name", str))
        case unknown:
            raise MalformedError(f"has the number format `{unknown}`, which no auditor knows")


def _bits(form: Table) -> int:
    bits = field(form, "bits", int)
    if not 2 <= bits <= 8:
        raise MalformedError(f"has codes of {bits} bits")
    return bits


def _element_bits(element: str) -> int:
    """``e4m3``: a sign, four bits of exponent, three of mantissa."""
    if element not in {"e4m3", "e5m2", "e2m3", "e3m2"}:
        raise MalformedError(f"has the small float `{element}`, which no auditor knows")
    return 1 + int(element[1]) + int(element[3])


def _block(name: str) -> Grid:
    if name == "nvfp4":
        return Grid(BLOCK_BITS[name], "e4m3", (("tensor_scale", 1),))
    if name not in BLOCK_BITS:
        raise MalformedError(f"has the number format `{name}`, which no auditor knows")
    return Grid(BLOCK_BITS[name], "e8m0", unused=NOT_NUMBERS["e4m3"] if name == "mxfp8" else ())
