"""One change to how a tensor is quantized."""

from dataclasses import replace
from enum import Enum
from typing import TypeAlias

from qcompile.diagnostics.frozen import frozen
from qcompile.policy.number_format import NumberFormat, PowerFormat, with_bits
from qcompile.policy.scheme import (
    Clip,
    FloatSlot,
    Granularity,
    MinMax,
    Observer,
    PerToken,
    QuantSlot,
)
from qcompile.policy.slot_rules import Objection, objection


class Field(Enum):
    """What a modifier or a ``set`` line decides; the value is the word of the language."""

    BITS = "bits"
    SYMMETRIC = "symmetric"
    GRANULARITY = "granularity"
    OBSERVER = "observer"
    EXPONENT = "exponent"
    DYNAMIC = "dynamic"


FieldValue: TypeAlias = int | float | bool | Granularity | Observer


@frozen
class SetBits:
    bits: int
    field = Field.BITS


@frozen
class SetSymmetric:
    symmetric: bool
    field = Field.SYMMETRIC


@frozen
class SetGranularity:
    """``per_token`` is found at run time, and says so by itself."""

    granularity: Granularity
    field = Field.GRANULARITY


@frozen
class SetObserver:
    observer: Observer
    field = Field.OBSERVER


@frozen
class SetDynamic:
    """A range found at run time is the range of that one input: its minimum and maximum."""

    dynamic: bool
    field = Field.DYNAMIC


@frozen
class SetExponent:
    """Of a power format; without it the exponent is searched for."""

    exponent: float
    field = Field.EXPONENT


Change: TypeAlias = SetBits | SetSymmetric | SetGranularity | SetObserver | SetDynamic | SetExponent


def apply(spec: QuantSlot, change: Change) -> QuantSlot | Objection:
    """``spec`` after the change, legal in its slot or not; or why the format cannot take it."""
    match change:
        case SetBits() | SetExponent():
            number = _reformatted(spec.format, change)
            return number if isinstance(number, Objection) else replace(spec, format=number)
        case SetSymmetric(symmetric):
            return replace(spec, symmetric=symmetric)
        case SetGranularity(PerToken() as granularity):
            return _at_run_time(replace(spec, granularity=granularity))
        case SetGranularity(granularity):
            return replace(spec, granularity=granularity)
        case SetObserver(observer):
            return replace(spec, observer=observer)
        case SetDynamic(True):
            return _at_run_time(spec)
        case SetDynamic(dynamic):
            return replace(spec, dynamic=dynamic)


def _at_run_time(spec: QuantSlot) -> QuantSlot:
    """Other observers than these search for a range beforehand."""
    keeps = isinstance(spec.observer, MinMax | Clip)
    return replace(spec, dynamic=True, observer=spec.observer if keeps else MinMax())


def _reformatted(number: NumberFormat, change: SetBits | SetExponent) -> NumberFormat | Objection:
    match change:
        case SetBits(bits):
            fixed = Objection(f"the bits of `{number}` are fixed", "name another format")
            return with_bits(number, bits) or fixed
        case SetExponent(exponent):
            if isinstance(number, PowerFormat):
                return replace(number, exponent=exponent)
            return Objection(f"`{number}` has no exponent", "use `power2`..`power8`")


def legal(slot: str, spec: QuantSlot, change: Change) -> QuantSlot | Objection:
    """``spec`` after the change, if it makes sense in ``slot``."""
    changed = apply(spec, change)
    return changed if isinstance(changed, Objection) else objection(slot, changed) or changed


def value_of(slot: QuantSlot | FloatSlot, field: Field) -> FieldValue | None:
    """``None`` of a float slot."""
    if isinstance(slot, FloatSlot):
        return None
    match field:
        case Field.BITS:
            return slot.bits
        case Field.SYMMETRIC:
            return slot.symmetric
        case Field.GRANULARITY:
            return slot.granularity
        case Field.OBSERVER:
            return slot.observer
        case Field.EXPONENT:
            return slot.format.exponent if isinstance(slot.format, PowerFormat) else None
        case Field.DYNAMIC:
            return slot.dynamic
