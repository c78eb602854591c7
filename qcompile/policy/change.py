"""One change to how a tensor is quantized, and which results are legal (QR405)."""

from dataclasses import replace
from enum import Enum
from typing import TypeAlias

from qcompile.diagnostics.frozen import frozen
from qcompile.policy.scheme import (
    FloatSlot,
    Granularity,
    IntFormat,
    MinMax,
    Observer,
    PerChannel,
    PerGroup,
    PerTensor,
    PerToken,
    QuantSlot,
)

MIN_BITS, MAX_BITS = 2, 8


class Field(Enum):
    """What a modifier or a ``set`` line decides; the value is the word of the language."""

    BITS = "bits"
    SYMMETRIC = "symmetric"
    GRANULARITY = "granularity"
    OBSERVER = "observer"
    DYNAMIC = "dynamic"


FieldValue: TypeAlias = int | bool | Granularity | Observer


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


Change: TypeAlias = SetBits | SetSymmetric | SetGranularity | SetObserver | SetDynamic


def apply(spec: QuantSlot, change: Change) -> QuantSlot:
    match change:
        case SetBits(bits):
            return replace(spec, format=IntFormat(bits, spec.format.signed))
        case SetSymmetric(symmetric):
            return replace(spec, symmetric=symmetric)
        case SetGranularity(PerToken() as granularity):
            return replace(spec, granularity=granularity, dynamic=True, observer=MinMax())
        case SetGranularity(granularity):
            return replace(spec, granularity=granularity)
        case SetObserver(observer):
            return replace(spec, observer=observer)
        case SetDynamic(True):
            return replace(spec, dynamic=True, observer=MinMax())
        case SetDynamic(dynamic):
            return replace(spec, dynamic=dynamic)


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
        case Field.DYNAMIC:
            return slot.dynamic


def initial(slot: str, number: IntFormat) -> QuantSlot:
    """Before any modifier. An unsigned weight has a zero point: it could not be negative else."""
    if slot == "weight":
        return QuantSlot(format=number, symmetric=number.signed, granularity=PerChannel())
    return QuantSlot(format=number, symmetric=False, granularity=PerTensor())


@frozen
class Objection:
    reason: str
    way_out: str


def objection(slot: str, spec: QuantSlot) -> Objection | None:
    """Why ``spec`` makes no sense for ``slot``; ``None`` if it does."""
    return _weight_objection(spec) if slot == "weight" else _activation_objection(spec)


def _weight_objection(spec: QuantSlot) -> Objection | None:
    if isinstance(spec.granularity, PerToken):
        return Objection("`per_token` is only for `act`", f"use {WEIGHT_GRANULARITIES}")
    if spec.dynamic:
        return Objection("`dynamic` is only for `act`", "leave it out: a weight does not change")
    if spec.symmetric and not spec.format.signed:
        name = str(spec.format)
        reason = f"a symmetric `{name}` weight cannot be negative"
        return Objection(reason, f"write `asymmetric`, or `{name.removeprefix('u')}`")
    return None


def _activation_objection(spec: QuantSlot) -> Objection | None:
    if isinstance(spec.granularity, PerGroup):
        return Objection("`per_group` is only for `weight`", f"use {ACT_GRANULARITIES}")
    if isinstance(spec.granularity, PerChannel) and spec.dynamic:
        reason = "`per_channel` activations have static ranges"
        return Objection(reason, "use `per_token` or `per_tensor` with `dynamic`")
    if isinstance(spec.granularity, PerToken) and not spec.dynamic:
        return Objection("`per_token` ranges are dynamic", "use `per_tensor` for a static range")
    if spec.dynamic and not isinstance(spec.observer, MinMax):
        reason = "a dynamic range is observed by `minmax` alone"
        return Objection(reason, "leave `observer` out, or `dynamic`")
    return None


WEIGHT_GRANULARITIES = "`per_tensor`, `per_channel` or `per_group(n)`"
ACT_GRANULARITIES = "`per_tensor`, `per_channel(axis)` or `per_token`"
