"""The trace of one site as text."""

from collections.abc import Iterable, Mapping

from qcompile.diagnostics.quantities import human_count
from qcompile.driver.site_trace import SiteTrace, TracedRule, TracedSite
from qcompile.policy.recipe import SlotName
from qcompile.policy.scheme import FloatSlot, QuantSlot
from qcompile.report.choice_view import rung_lines
from qcompile.report.plan_rows import slot_text

MARKS = {"decides": "*", "overridden": "-", "refused": "!", "elsewhere": " "}


def trace_text(trace: SiteTrace) -> str:
    """What the site is, every rule in order, and what came of it."""
    lines = [f"{trace.site.key}   {trace.site.kind}, {trace.site.op}"]
    lines += [f"  {fact}" for fact in _facts(trace.site)]
    if trace.compute is not None:
        work = trace.compute
        lines.append(
            f"  {human_count(work.macs)} MACs a sample, "
            f"{human_count(work.bops_before)} -> {human_count(work.bops_after)} bit operations"
        )
    lines += ["", "  rules in order: * decides, - overridden later, ! refused by a `final` line"]
    places = [str(step.rule) for step in trace.rules]
    width = max(map(len, places), default=0)
    for place, step in zip(places, trace.rules, strict=True):
        lines.append(f"  {MARKS[step.effect]} {place:<{width}}  {step.rule.text}")
        lines.append(f"    {'':<{width}}    {_gave(step)}")
    if not trace.rules:
        lines.append("    there are none")
    if trace.choice is not None:
        lines += ["", *(f"  {line}" for line in rung_lines(trace.choice))]
    how = trace.scheme or trace.outcome
    lines.append(f"  = {how}: {_slots(trace.slots)}")
    return "\n".join(lines) + "\n"


def _gave(step: TracedRule) -> str:
    match step.effect:
        case "elsewhere":
            return "does not select it"
        case "refused":
            return "changes nothing here"
        case _:
            return f"gives {_slots(step.gave or {})}"


def _facts(site: TracedSite) -> Iterable[str]:
    if site.weight is not None and site.shape is not None:
        tied = f", the same tensor as {site.tied_to}" if site.tied_to else ""
        yield f"weight {site.weight} {_sizes(site.shape)} {site.dtype}{tied}"
    geometry = [
        f"{name} {value if isinstance(value, int) else _sizes(value)}"
        for name, value in (
            ("groups", site.groups),
            ("kernel", site.kernel),
            ("stride", site.stride),
        )
        if value is not None
    ]
    shared = ["called or read more than once"] if site.shared else []
    yield ", ".join([*geometry, *shared, f"depth {site.depth}", f"{site.params} parameters"])
    yield f"unit {site.unit}" if site.unit else "taken away by a transform"
    yield f"reads {', '.join(site.reads) or 'the inputs of the model'}"
    yield f"feeds {', '.join(site.feeds) or 'the outputs of the model'}"


def _sizes(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes))


def _slots(slots: Mapping[SlotName, QuantSlot | FloatSlot]) -> str:
    named = [
        f"{name} {slot_text(slot)}" for name, slot in slots.items() if isinstance(slot, QuantSlot)
    ]
    return ", ".join(named) or "float"
