"""Multiply-accumulates, and the bit operations that they amount to, before anything is run.

One bit operation is a product of two bits: a multiply-accumulate of a b-bit and an a-bit number is
``a * b`` of them (as HAWQ-V3, 2011.10680, counts). It says how cheap integer hardware could be, not
how fast a given machine is.
"""

from collections.abc import Mapping, Sequence

from qcompile.analysis.decide import ITEM_BYTES, quantizes_weight
from qcompile.policy.core import SiteCompute
from qcompile.policy.recipe import SlotName
from qcompile.policy.resolution import Decision, Resolution
from qcompile.policy.scheme import QuantSlot
from qcompile.policy.site import Kind, Site

FLOAT_BITS = 32


def compute(
    sites: Sequence[Site], resolution: Resolution, rotated: Mapping[str, int]
) -> tuple[SiteCompute, ...]:
    """Of every site that multiplies, for one sample of the example input.

    ``rotated``: the block of the rotation in front of a layer, by its node; where several read it,
    by that of the first.
    """
    decisions = {decision.site.key: decision for decision in resolution.decisions}
    found: list[SiteCompute] = []
    for site in sites:
        if site.macs is None:
            continue
        decision = decisions.get(site.key)
        before = site.macs * _float_bits(site) ** 2
        after = before if decision is None else bit_operations(site, site.macs, decision)
        turned = site.macs // (site.out_features or 1) * rotated.get(site.node, 0)
        after += turned * _float_bits(site) ** 2
        macs = site.macs + turned
        found.append(SiteCompute(key=site.key, macs=macs, bops_before=before, bops_after=after))
    return tuple(found)


def bit_operations(site: Site, macs: int, decision: Decision) -> int:
    """``macs`` multiplications of ``site`` in the formats that were decided."""
    act = _bits(site, decision, "act")
    if site.kind is Kind.ATTENTION:
        # queries meet keys; then probabilities, which stay in float, meet values
        values = _bits(site, decision, "act2")
        scores = macs // 2
        return scores * act * values + (macs - scores) * _float_bits(site) * values
    return macs * act * _bits(site, decision, "act2" if site.weight is None else "weight")


def _bits(site: Site, decision: Decision, slot: SlotName) -> int:
    spec = decision.slots[slot]
    kept = slot == "weight" and not quantizes_weight(site, decision)
    return spec.bits if isinstance(spec, QuantSlot) and not kept else _float_bits(site)


def _float_bits(site: Site) -> int:
    """Of the site's weight as it is, taken for the type that its inputs have as well."""
    item = None if site.weight is None else ITEM_BYTES.get(site.weight.dtype)
    return FLOAT_BITS if item is None else 8 * item
