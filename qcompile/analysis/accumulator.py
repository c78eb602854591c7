"""How large the integer sums of products of a layer can get.

A kernel adds ``(w - zero_w) * (a - zero_a)`` along a weight row, or along one group of it where
each group has its own scale. Before the run the codes are unknown, and formats and sizes bound the
sum; after it the codes are known, and the bound is attained by the input that takes its largest
code wherever a weight is positive and its smallest wherever one is negative.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import prod

import torch
from torch import Tensor

from qcompile.policy.core import SitePlan
from qcompile.policy.graph_facts import Accumulator
from qcompile.policy.number_format import IntFormat
from qcompile.policy.resolution import Decision
from qcompile.policy.scheme import PerGroup, QuantSlot
from qcompile.policy.site import Kind, Site
from qcompile.quant.grouping import grouping
from qcompile.quant.packing import unpack
from qcompile.quant.quantized_weight import QuantizedWeight, from_tensors

ACCUMULATOR_BITS = 32
"""Of the kernels, where no target says otherwise."""

INTEGER_KINDS = (Kind.CONV.value, Kind.LINEAR.value)
"""What multiplies codes by codes and adds the products."""


def bound(site: Site, decision: Decision) -> Accumulator | None:
    """What formats and sizes allow; ``None`` for a layer that does not compute on integers."""
    weight, act = decision.slots["weight"], decision.slots["act"]
    if site.kind.value not in INTEGER_KINDS or site.weight is None:
        return None
    if not isinstance(weight, QuantSlot) or not isinstance(act, QuantSlot):
        return None
    if not (is_integer(weight) and is_integer(act)):
        return None
    terms = terms_of(weight, site.weight.shape, site.output_axis)
    products = [w * a for w in steps(weight) for a in steps(act)]
    return accumulator(site.key, terms, terms * min(products), terms * max(products))


def is_integer(spec: QuantSlot) -> bool:
    """Products of codes of other formats are no integers."""
    return isinstance(spec.format, IntFormat)


def terms_of(weight: QuantSlot, shape: tuple[int, ...], output_axis: int) -> int:
    """Products that one sum has at most: a row of the weight, or one of its groups."""
    if isinstance(weight.granularity, PerGroup):
        return weight.granularity.size
    return prod(shape) // max(shape[output_axis], 1)


def steps(spec: QuantSlot) -> tuple[int, int]:
    """Bounds of ``code - zero_point`` whatever the zero point; zero lies between them."""
    low, high = spec.integer.qmin, spec.integer.qmax
    return (low, high) if spec.symmetric else (low - high, high - low)


def accumulator(site: str, terms: int, low: int, high: int) -> Accumulator:
    bits = 1 + max(high.bit_length(), (~low).bit_length() if low < 0 else 0)
    return Accumulator(site=site, terms=terms, low=low, high=high, bits=bits)


def sums_of_run(sites: Sequence[SitePlan], tensors: Mapping[str, Tensor]) -> Iterator[Accumulator]:
    """What the codes and zero points of a finished run allow, layer by layer."""
    for site in sites:
        plans = {plan.slot: plan for plan in site.tensors}
        weight, act = plans.get("weight"), plans.get("act")
        if weight is None or act is None or site.kind not in INTEGER_KINDS:
            continue
        if not (is_integer(weight.spec) and is_integer(act.spec)):
            continue
        name = weight.storage or weight.parameter
        assert name is not None, "a weight has a path"
        codes = from_tensors(tensors, name, weight.spec, weight.shape, weight.output_axis)
        zero_point = tensors.get(f"{site.key}:act.zero_point")
        yield attained(site.key, codes, act.spec, zero_point)


def attained(
    site: str, weight: QuantizedWeight, act: QuantSlot, act_zero_point: Tensor | None
) -> Accumulator:
    """What the codes allow; ``act_zero_point`` as on disk, ``None`` if there is none or any."""
    rows = rows_of(weight)
    if isinstance(weight.spec.granularity, PerGroup):
        rows = rows.reshape(-1, weight.spec.granularity.size)
    least, most = act_steps(act, act_zero_point)
    positive, negative = rows.clamp(min=0).sum(1), rows.clamp(max=0).sum(1)
    high = (positive * most + negative * least).amax()
    low = (positive * least + negative * most).amin()
    return accumulator(site, rows.shape[1], int(low.item()), int(high.item()))


def rows_of(weight: QuantizedWeight) -> Tensor:
    """``code - zero_point`` as int64 ``[out, row]``."""
    view = grouping(weight.spec.granularity, weight.shape, weight.output_axis)
    codes = unpack(weight.packed, weight.spec.bits, prod(weight.shape)).to(torch.int64)
    grouped = view.view(codes.reshape(weight.shape))
    if weight.zero_point is None:
        offset = grouped + weight.spec.integer.qmin
    else:
        offset = grouped - weight.zero_point.reshape(view.outer, view.groups, 1).to(torch.int64)
    moved = view.restore(offset).movedim(weight.output_axis, 0)
    return moved.reshape(moved.shape[0], -1)


def act_steps(act: QuantSlot, zero_point: Tensor | None) -> tuple[int, int]:
    """Bounds of ``code - zero_point`` for the zero points ``[1]`` or ``[channels]`` in force."""
    if zero_point is None:
        return steps(act)
    width = act.integer.qmax - act.integer.qmin
    return -int(zero_point.max().item()), width - int(zero_point.min().item())
