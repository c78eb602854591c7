"""Number formats: what the codes of a tensor stand for, up to its scale.

A tagged union by ``kind``; ``str`` gives the word of the language, ``named`` goes back. ``bits``
are those of one code on disk.
"""

from typing import Literal, TypeAlias

from qcompile.diagnostics.frozen import frozen
from qcompile.methods.bounds import refuse_illegal

MIN_BITS, MAX_BITS = 2, 8


def _check_bits(bits: int) -> None:
    refuse_illegal(bits=MIN_BITS <= bits <= MAX_BITS)


@frozen
class IntFormat:
    """Integer codes of ``bits`` bits, ``[-2^(b-1), 2^(b-1) - 1]`` or ``[0, 2^b - 1]``."""

    bits: int
    signed: bool
    kind: Literal["int"] = "int"

    def __post_init__(self) -> None:
        _check_bits(self.bits)

    @property
    def qmin(self) -> int:
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def qmax(self) -> int:
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    def __str__(self) -> str:
        return f"{'int' if self.signed else 'uint'}{self.bits}"


@frozen
class PowerFormat:
    """``sign(k) * (|k| / K) ** (1 / exponent)`` for ``k`` in ``[-K, K]``, ``K = 2^(b-1) - 1``.

    Exponents below 1 are denser near zero (PowerQuant, 2301.09858).
    """

    bits: int
    exponent: float | None = None
    """``None``: searched for each tensor, and stored with it."""
    kind: Literal["power"] = "power"

    def __post_init__(self) -> None:
        _check_bits(self.bits)
        refuse_illegal(exponent=self.exponent is None or 0.1 <= self.exponent <= 4)

    def __str__(self) -> str:
        chosen = "" if self.exponent is None else f"(exponent={self.exponent:g})"
        return f"power{self.bits}{chosen}"


@frozen
class LogFormat:
    """0 and ``base ** -k`` for ``k`` in ``[0, 2^b - 2]``: numbers of one sign."""

    bits: int
    root: bool = False
    """The base is the square root of 2, not 2."""
    kind: Literal["log"] = "log"

    def __post_init__(self) -> None:
        _check_bits(self.bits)

    def __str__(self) -> str:
        return f"{'logsqrt2' if self.root else 'log2'}_{self.bits}"


@frozen
class NormalFormat:
    """NF4: sixteen quantiles of the normal distribution, zero among them (QLoRA, 2305.14314)."""

    kind: Literal["nf4"] = "nf4"

    @property
    def bits(self) -> int:
        return 4

    def __str__(self) -> str:
        return "nf4"


@frozen
class CodebookFormat:
    """``2^b`` levels found for each tensor, and stored with it."""

    bits: int
    kind: Literal["codebook"] = "codebook"

    def __post_init__(self) -> None:
        _check_bits(self.bits)

    def __str__(self) -> str:
        return f"codebook{self.bits}"


Element: TypeAlias = Literal["e4m3", "e5m2", "e2m3", "e3m2", "e2m1"]
"""Sign, exponent and mantissa bits of a small float (OCP FP8 and Microscaling formats)."""


@frozen
class FloatFormat:
    """Small floats with one float32 scale for each group."""

    element: Element
    kind: Literal["minifloat"] = "minifloat"

    @property
    def bits(self) -> int:
        return element_bits(self.element)

    def __str__(self) -> str:
        return f"fp{self.bits}_{self.element}"


@frozen
class BlockFormat:
    """Small floats that share a scale of one byte: OCP Microscaling, and NVFP4."""

    name: Literal["mxfp8", "mxfp6", "mxfp4", "nvfp4"]
    kind: Literal["block"] = "block"

    @property
    def element(self) -> Element:
        match self.name:
            case "mxfp8":
                return "e4m3"
            case "mxfp6":
                return "e2m3"
            case "mxfp4" | "nvfp4":
                return "e2m1"

    @property
    def block(self) -> int:
        """Neighbours that share a scale."""
        return 16 if self.name == "nvfp4" else 32

    @property
    def bits(self) -> int:
        return element_bits(self.element)

    def __str__(self) -> str:
        return self.name


SingleFormat: TypeAlias = (
    IntFormat | PowerFormat | LogFormat | NormalFormat | CodebookFormat | FloatFormat | BlockFormat
)


@frozen
class SumFormat:
    """Each term quantizes what the terms before it left (REx, 2203.14645)."""

    terms: tuple[SingleFormat, ...]
    kind: Literal["sum"] = "sum"

    def __post_init__(self) -> None:
        refuse_illegal(terms=2 <= len(self.terms) <= MAX_TERMS)

    @property
    def bits(self) -> int:
        return sum(term.bits for term in self.terms)

    def __str__(self) -> str:
        return " + ".join(map(str, self.terms))


NumberFormat: TypeAlias = SingleFormat | SumFormat
MAX_TERMS = 4


def element_bits(element: Element) -> int:
    return 1 + int(element[1]) + int(element[3])


def terms_of(number: NumberFormat) -> tuple[SingleFormat, ...]:
    return number.terms if isinstance(number, SumFormat) else (number,)


def has_signs(number: NumberFormat) -> bool:
    """Levels on both sides of zero."""
    return number.signed if isinstance(number, IntFormat) else not isinstance(number, LogFormat)


def has_blocks(number: NumberFormat) -> bool:
    """Neighbours share a scale of one byte."""
    return any(isinstance(term, BlockFormat) for term in terms_of(number))


def with_bits(number: NumberFormat, bits: int) -> NumberFormat | None:
    """The same family at another width; ``None`` where the width is part of the format."""
    match number:
        case IntFormat(_, signed):
            return IntFormat(bits, signed)
        case PowerFormat(_, exponent):
            return PowerFormat(bits, exponent)
        case CodebookFormat():
            return CodebookFormat(bits)
        case LogFormat(_, False):
            return LogFormat(bits)
        case _:
            return None


_WIDTHS = range(MIN_BITS, MAX_BITS + 1)
FORMATS: tuple[SingleFormat, ...] = (
    *(IntFormat(bits, signed=True) for bits in _WIDTHS),
    *(IntFormat(bits, signed=False) for bits in _WIDTHS),
    *(PowerFormat(bits) for bits in _WIDTHS),
    *(LogFormat(bits) for bits in _WIDTHS),
    LogFormat(4, root=True),
    NormalFormat(),
    *(CodebookFormat(bits) for bits in _WIDTHS),
    *(FloatFormat("e4m3"), FloatFormat("e5m2"), FloatFormat("e2m3"), FloatFormat("e3m2")),
    *(BlockFormat("mxfp8"), BlockFormat("mxfp6"), BlockFormat("mxfp4"), BlockFormat("nvfp4")),
)
"""Every format that has a name."""
FORMAT_NAMES = tuple(map(str, FORMATS))
FAMILIES = ("int", "uint", "power", "log2_", "codebook")
"""Beginnings of the names that end in a width."""


def named(name: str) -> SingleFormat | None:
    return dict(zip(FORMAT_NAMES, FORMATS, strict=True)).get(name)
