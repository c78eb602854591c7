"""How one tensor is quantized: number format, granularity, range observer.

Alternatives are tagged unions, so that no combination that can be written down is meaningless;
what the *language* lets a user combine is checked in ``policy.change`` (QR405). ``kind`` tells them
apart where a plan lies on disk.
"""

from typing import Literal, TypeAlias

from qcompile.diagnostics.frozen import frozen
from qcompile.methods.bounds import refuse_illegal
from qcompile.policy.number_format import IntFormat, NumberFormat
from qcompile.policy.site import Kind


@frozen
class PerTensor:
    kind: Literal["per_tensor"] = "per_tensor"

    def __str__(self) -> str:
        return "per_tensor"


@frozen
class PerChannel:
    """One scale for each index of ``axis``; negative axes count from the end."""

    axis: int = 0
    kind: Literal["per_channel"] = "per_channel"

    def __str__(self) -> str:
        return "per_channel" if self.axis == 0 else f"per_channel({self.axis})"


@frozen
class PerGroup:
    """One scale for ``size`` neighbours of a weight row ``[out, in * kernel]``."""

    size: int
    kind: Literal["per_group"] = "per_group"

    def __post_init__(self) -> None:
        refuse_illegal(size=self.size > 0)

    def __str__(self) -> str:
        return f"per_group({self.size})"


@frozen
class PerToken:
    """One scale for each vector along the last axis, computed at run time."""

    kind: Literal["per_token"] = "per_token"

    def __str__(self) -> str:
        return "per_token"


Granularity: TypeAlias = PerTensor | PerChannel | PerGroup | PerToken


@frozen
class MinMax:
    kind: Literal["minmax"] = "minmax"


@frozen
class Mse:
    """The range with the least mean ``|x - x_hat| ** p`` (BRECQ's search, p = 2.4)."""

    p: float = 2.4
    kind: Literal["mse"] = "mse"

    def __post_init__(self) -> None:
        refuse_illegal(p=self.p > 0)


@frozen
class Clip:
    """A share of the range that ``MinMax`` has: what is cut off makes the steps finer."""

    share: float
    kind: Literal["clip"] = "clip"

    def __post_init__(self) -> None:
        refuse_illegal(share=0 < self.share <= 1)


@frozen
class Percentile:
    """The range that holds ``q`` percent of the values."""

    q: float
    kind: Literal["percentile"] = "percentile"

    def __post_init__(self) -> None:
        refuse_illegal(q=50 < self.q <= 100)


@frozen
class Lsq:
    """Start from ``Mse``; reconstruction then learns the scale (LSQ, 1902.08153)."""

    kind: Literal["lsq"] = "lsq"


@frozen
class SignedMse:
    """As ``Mse``, and the scale of a group is negative where its largest number is positive.

    So the code without an opposite, -8 of ``int4``, stands for the largest number.
    """

    p: float = 2.4
    kind: Literal["signed_mse"] = "signed_mse"

    def __post_init__(self) -> None:
        refuse_illegal(p=self.p > 0)


Observer: TypeAlias = MinMax | Clip | Mse | Percentile | Lsq | SignedMse


@frozen
class QuantSlot:
    """``x ~ scale * level``; the levels of integers are ``code - zero_point``.

    Without a zero point a slot is ``symmetric``, as all formats are but the integers.
    """

    format: NumberFormat
    symmetric: bool
    granularity: Granularity
    observer: Observer = Mse()
    dynamic: bool = False
    """The range is computed from each input at run time."""
    kind: Literal["quant"] = "quant"

    @property
    def bits(self) -> int:
        return self.format.bits

    @property
    def has_signed_scale(self) -> bool:
        """A scale may be negative."""
        return isinstance(self.observer, SignedMse)

    @property
    def run_time_share(self) -> float:
        """How much of a range that is found at run time the levels cover; 1 of other ranges."""
        return self.observer.share if self.dynamic and isinstance(self.observer, Clip) else 1.0

    @property
    def integer(self) -> IntFormat:
        """The format, where it has to be one of integers."""
        if not isinstance(self.format, IntFormat):
            raise ValueError(f"`{self.format}` has no integer codes")
        return self.format


COARSE = 6
"""Bits up to which a range is worth choosing for a layer's output: what finer grids round off
counts little."""


def has_range_to_choose(slot: QuantSlot) -> bool:
    """Of an activation: one range, coarse, found before the run, and not asked for by name."""
    is_one = isinstance(slot.granularity, PerTensor) and not slot.dynamic
    is_coarse = isinstance(slot.format, IntFormat) and slot.bits <= COARSE
    return is_one and is_coarse and isinstance(slot.observer, Mse)


@frozen
class FloatSlot:
    """The tensor keeps its floating-point type."""

    kind: Literal["float"] = "float"


Slot: TypeAlias = QuantSlot | FloatSlot


@frozen
class Scheme:
    """What happens to each tensor of a site. ``act`` is the first operand, ``act2`` the others."""

    name: str
    weight: Slot = FloatSlot()
    act: Slot = FloatSlot()
    act2: Slot = FloatSlot()
    act2_follows: bool = True
    """Nothing was said of ``act2``: it is as ``act``, and ``set act.x`` reaches it as well."""
    bias: Slot = FloatSlot()
    kv: Slot = FloatSlot()
    """Of an attention, what ``act2`` is of other products: its keys and values."""
    kv_follows: bool = True
    """Nothing was said of ``kv``: it is as ``act2``."""


def keeps_apart(scheme: Scheme | None, kind: Kind) -> bool:
    """An attention whose scheme says something of ``kv``: ``act2`` is not in it."""
    return kind is Kind.ATTENTION and scheme is not None and not scheme.kv_follows


def slots_behind(slot: str, *, of_attention: bool) -> tuple[str, ...]:
    """Which lines of a scheme may have decided ``slot`` of a site: the first that is there has."""
    if slot != "act2":
        return (slot,)
    return ("kv", "act2", "act") if of_attention else ("act2", "act")


ALL_SLOTS = ("weight", "act", "act2", "bias", "kv")
"""The fields of ``Scheme`` that are slots."""
