"""Which formats, granularities and ranges make sense together in a slot (QR405)."""

from typing import assert_never

from qcompile.diagnostics.frozen import frozen
from qcompile.policy.number_format import (
    BlockFormat,
    CodebookFormat,
    FloatFormat,
    IntFormat,
    LogFormat,
    NormalFormat,
    NumberFormat,
    PowerFormat,
    SumFormat,
    terms_of,
)
from qcompile.policy.scheme import (
    Clip,
    MinMax,
    PerChannel,
    PerGroup,
    PerTensor,
    PerToken,
    QuantSlot,
)

WEIGHT_GRANULARITIES = "`per_tensor`, `per_channel` or `per_group(n)`"
ACT_GRANULARITIES = "`per_tensor`, `per_channel(axis)` or `per_token`"


@frozen
class Objection:
    reason: str
    way_out: str


def initial(slot: str, number: NumberFormat) -> QuantSlot:
    """Before any modifier. What is unsigned and stored has a zero point, or it had one sign."""
    dynamic = slot in ("act", "act2", "kv")
    blocks = [term for term in terms_of(number) if isinstance(term, BlockFormat)]
    if blocks:
        return QuantSlot(number, True, PerGroup(blocks[0].block), MinMax(), dynamic=dynamic)
    if isinstance(number, CodebookFormat):
        return QuantSlot(number, True, PerChannel(), MinMax())
    signed = number.signed if isinstance(number, IntFormat) else True
    match slot:
        case "weight":
            return QuantSlot(number, signed, PerChannel())
        case "bias":
            return QuantSlot(number, signed, PerTensor())
        case _:
            return QuantSlot(number, not isinstance(number, IntFormat), PerTensor())


def objection(slot: str, spec: QuantSlot) -> Objection | None:
    """Why ``spec`` makes no sense for ``slot``; ``None`` if it does."""
    found = _format_objection(slot, spec.format) or _scale_objection(spec)
    if found is not None:
        return found
    if slot in ("weight", "bias"):
        return _stored_objection(slot, spec)
    return _activation_objection(spec)


def _format_objection(slot: str, number: NumberFormat) -> Objection | None:
    name = str(number)
    match number:
        case IntFormat() | FloatFormat():
            return None
        case SumFormat(terms):
            if slot != "weight":
                return Objection("a sum of formats is only for `weight`", "write one format")
            wrong = (_format_objection(slot, term) or _no_term(term) for term in terms)
            return next((one for one in wrong if one is not None), None)
        case LogFormat():
            if slot in ("act", "act2"):
                return None
            reason = f"`{name}` holds numbers of one sign, and `{slot}` has both"
            return Objection(reason, "use `power4`, or an integer format")
        case NormalFormat() | CodebookFormat():
            if slot == "weight":
                return None
            return Objection(
                f"`{name}` is only for `weight`", "use an integer format or `fp8_e4m3`"
            )
        case PowerFormat() | BlockFormat():
            if slot != "bias":
                return None
            return Objection(f"`{name}` is not for `bias`", "use `int8` or `fp8_e4m3`")
        case _:
            assert_never(number)


def _no_term(term: NumberFormat) -> Objection | None:
    if isinstance(term, IntFormat) and not term.signed:
        reason = f"what a term of a sum leaves has both signs, `{term}` has one"
        return Objection(reason, f"write `int{term.bits}`")
    return None


def _scale_objection(spec: QuantSlot) -> Objection | None:
    """What the format says of the scale, whatever the slot."""
    number, name = spec.format, str(spec.format)
    if not spec.symmetric and not isinstance(number, IntFormat):
        return Objection(f"`{name}` has no zero point", "leave `asymmetric` out")
    sizes = {term.block for term in terms_of(number) if isinstance(term, BlockFormat)}
    if sizes and (len(sizes) > 1 or spec.granularity != PerGroup(next(iter(sizes)))):
        size = min(sizes)
        return Objection(f"`{name}` has one scale for {size} neighbours", "leave it out")
    follows = sizes or isinstance(number, CodebookFormat)
    if follows and not isinstance(spec.observer, MinMax):
        return Objection(f"the scale of `{name}` is given by the largest value", "leave it out")
    return _sign_objection(spec)


def _sign_objection(spec: QuantSlot) -> Objection | None:
    """A scale has a sign where all that reads it multiplies: groups are of weights alone."""
    number = spec.format
    is_signed = isinstance(number, IntFormat) and number.signed and spec.symmetric
    if not spec.has_signed_scale or (is_signed and isinstance(spec.granularity, PerGroup)):
        return None
    reason = "`signed_mse` is for groups of symmetric signed integers"
    return Objection(reason, "write `observer=mse`, or a weight as `int4 symmetric per_group(32)`")


def _stored_objection(slot: str, spec: QuantSlot) -> Objection | None:
    if isinstance(spec.granularity, PerToken):
        return Objection("`per_token` is only for `act`", f"use {WEIGHT_GRANULARITIES}")
    if spec.dynamic:
        return Objection("`dynamic` is only for `act`", f"leave it out: a {slot} does not change")
    if slot == "bias" and isinstance(spec.granularity, PerGroup):
        return Objection("a bias has no groups", "use `per_tensor` or `per_channel`")
    if spec.symmetric and isinstance(spec.format, IntFormat) and not spec.format.signed:
        name = str(spec.format)
        reason = f"a symmetric `{name}` {slot} cannot be negative"
        return Objection(reason, f"write `asymmetric`, or `{name.removeprefix('u')}`")
    return None


def _activation_objection(spec: QuantSlot) -> Objection | None:
    if isinstance(spec.format, BlockFormat):
        if spec.dynamic:
            return None
        return Objection(f"ranges of `{spec.format}` activations are dynamic", "leave it out")
    if spec.dynamic and isinstance(spec.format, PowerFormat) and spec.format.exponent is None:
        reason = "an exponent is searched where a static range is"
        return Objection(reason, "write one, such as `exponent=0.5`, or leave `dynamic` out")
    if isinstance(spec.granularity, PerGroup):
        return Objection("`per_group` is only for `weight`", f"use {ACT_GRANULARITIES}")
    if isinstance(spec.granularity, PerChannel) and spec.dynamic:
        reason = "`per_channel` activations have static ranges"
        return Objection(reason, "use `per_token` or `per_tensor` with `dynamic`")
    if isinstance(spec.granularity, PerToken) and not spec.dynamic:
        return Objection("`per_token` ranges are dynamic", "use `per_tensor` for a static range")
    if spec.dynamic and not isinstance(spec.observer, MinMax | Clip):
        reason = "a dynamic range is observed by `minmax` and `clip` alone"
        return Objection(reason, "leave `observer` out, or `dynamic`")
    if spec.run_time_share != 1 and not isinstance(spec.format, IntFormat):
        reason = f"a dynamic range of `{spec.format}` is all of the numbers"
        return Objection(reason, "leave `observer` out")
    return None
