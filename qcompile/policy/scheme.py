"""How one tensor is quantized: number format, granularity, range observer.

Alternatives are tagged unions, so that no combination that can be written down is meaningless;
what the *language* lets a user combine is checked in ``plan.lower`` (QR405).
"""

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field


class Frozen(BaseModel):
    """Base of everything that is read from or written to disk."""

    # validators are built on first use: `check` needs few of them
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class PerTensor(Frozen):
    kind: Literal["per_tensor"] = "per_tensor"

    def __str__(self) -> str:
        return "per_tensor"


class PerChannel(Frozen):
    """One scale for each index of ``axis``; negative axes count from the end."""

    kind: Literal["per_channel"] = "per_channel"
    axis: int = 0

    def __str__(self) -> str:
        return "per_channel" if self.axis == 0 else f"per_channel({self.axis})"


class PerGroup(Frozen):
    """One scale for ``size`` neighbours of a weight row ``[out, in * kernel]``."""

    kind: Literal["per_group"] = "per_group"
    size: int = Field(gt=0)

    def __str__(self) -> str:
        return f"per_group({self.size})"


class PerToken(Frozen):
    """One scale for each vector along the last axis, computed at run time."""

    kind: Literal["per_token"] = "per_token"

    def __str__(self) -> str:
        return "per_token"


Granularity: TypeAlias = Annotated[
    PerTensor | PerChannel | PerGroup | PerToken, Field(discriminator="kind")
]


class MinMax(Frozen):
    kind: Literal["minmax"] = "minmax"


class Mse(Frozen):
    """The range with the least mean ``|x - x_hat| ** p`` (BRECQ's search, p = 2.4)."""

    kind: Literal["mse"] = "mse"
    p: float = Field(default=2.4, gt=0)


class Percentile(Frozen):
    """The range that holds ``q`` percent of the values."""

    kind: Literal["percentile"] = "percentile"
    q: float = Field(gt=50, le=100)


class Lsq(Frozen):
    """Start from ``Mse``; reconstruction then learns the scale (LSQ, 1902.08153)."""

    kind: Literal["lsq"] = "lsq"


Observer: TypeAlias = Annotated[MinMax | Mse | Percentile | Lsq, Field(discriminator="kind")]


class IntFormat(Frozen):
    """Integer codes of ``bits`` bits, ``[-2^(b-1), 2^(b-1) - 1]`` or ``[0, 2^b - 1]``."""

    kind: Literal["int"] = "int"
    bits: int = Field(ge=2, le=8)
    signed: bool

    @property
    def qmin(self) -> int:
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def qmax(self) -> int:
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    def __str__(self) -> str:
        return f"{'int' if self.signed else 'uint'}{self.bits}"


NumberFormat: TypeAlias = IntFormat
"""A tagged union by ``kind`` as soon as there is a second family of formats."""


class QuantSlot(Frozen):
    """``x ~ scale * (code - zero_point)``; ``zero_point`` is 0 when ``symmetric``."""

    kind: Literal["quant"] = "quant"
    format: NumberFormat
    symmetric: bool
    granularity: Granularity
    observer: Observer = Mse()
    dynamic: bool = False
    """The range is computed from each input at run time."""

    @property
    def bits(self) -> int:
        return self.format.bits


class FloatSlot(Frozen):
    """The tensor keeps its floating-point type."""

    kind: Literal["float"] = "float"


Slot: TypeAlias = Annotated[QuantSlot | FloatSlot, Field(discriminator="kind")]


class Scheme(Frozen):
    """What happens to each tensor of a site. ``act`` is the first operand, ``act2`` the others."""

    name: str
    weight: Slot = FloatSlot()
    act: Slot = FloatSlot()
    act2: Slot = FloatSlot()
    act2_follows: bool = True
    """Nothing was said of ``act2``: it is as ``act``, and ``set act.x`` reaches it as well."""
    bias: Slot = FloatSlot()
    kv: Slot = FloatSlot()
