"""Quantizing what only a float operation reads loses precision and gains nothing."""

from collections import defaultdict
from collections.abc import Iterator

from qcompile.analysis.context import Context
from qcompile.analysis.decide import quantizes_weight
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.diagnostics.source import Span
from qcompile.policy.recipe import SlotName
from qcompile.policy.resolution import Decision
from qcompile.policy.scheme import FloatSlot, keeps_apart
from qcompile.policy.site import Kind, Site
from qcompile.policy.unmatched import some_paths


def dangling_quantizer(context: Context) -> Iterator[Diagnostic]:
    """QR510: one for each place in the recipe that says so."""
    found: dict[Span, list[Site]] = defaultdict(list)
    for site, decision in context.decided():
        slot = _lonely_slot(site, decision)
        scheme = context.recipe.schemes.get(decision.scheme or "")
        # keys and values may be small for the memory that holds them, whatever meets them
        is_kept = slot == "act2" and keeps_apart(scheme, site.kind)
        if slot is not None and not is_kept:
            found[context.slot_span(decision, slot)].append(site)
    for span, sites in found.items():
        yield computes_in_float(span, sites)


def _lonely_slot(site: Site, decision: Decision) -> SlotName | None:
    """The quantized operand of a product whose other factor is float."""
    act, act2 = (not isinstance(decision.slots[slot], FloatSlot) for slot in ("act", "act2"))
    if site.kind in (Kind.CONV, Kind.LINEAR):
        return "act" if act and not quantizes_weight(site, decision) else None
    if site.kind in (Kind.MATMUL, Kind.ATTENTION) and len(site.operands) > 1 and act != act2:
        return "act" if act else "act2"
    return None


def computes_in_float(span: Span, sites: list[Site]) -> Diagnostic:
    """QR510."""
    what = f"`{sites[0].key}` multiplies" if len(sites) == 1 else f"{len(sites)} sites multiply"
    return Diagnostic(
        Code.DANGLING_QUANTIZER,
        f"{what} a quantized operand by a float one",
        Label(span, "quantizes one operand alone"),
        notes=some_paths(sites),
        help="quantize the other operand as well, or leave both in float",
    )
