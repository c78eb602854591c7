"""A grid that covers what a value cannot be, or leaves out what it can be."""

from collections import defaultdict
from collections.abc import Iterator

from qcompile.analysis.context import Context
from qcompile.analysis.interval import Interval
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.diagnostics.source import Span
from qcompile.policy.number_format import IntFormat, LogFormat, PowerFormat, has_signs
from qcompile.policy.scheme import QuantSlot
from qcompile.policy.unmatched import MAX_PATHS


def wasted_range(context: Context) -> Iterator[Diagnostic]:
    """QR513, QR518: one of each for each place in the recipe that chooses such a grid."""
    wasted: dict[Span, list[str]] = defaultdict(list)
    cut: dict[Span, list[str]] = defaultdict(list)
    for site, decision, slot, operand in context.operands():
        spec = decision.slots[slot]
        if not isinstance(spec, QuantSlot) or not spec.symmetric:
            continue
        if not isinstance(spec.format, IntFormat | PowerFormat | LogFormat):
            continue
        interval = context.structure.range_of(operand)
        span = context.slot_span(decision, slot)
        signed = has_signs(spec.format)
        if signed and has_one_sign(interval):
            wasted[span].append(f"{site.key}: its {slot} is {shown(interval)}")
        elif not signed and interval.low < 0:
            cut[span].append(f"{site.key}: its {slot} is {shown(interval)}")
    for span, found in wasted.items():
        yield half_unused(span, found)
    for span, found in cut.items():
        yield negatives_cut(span, found)


def has_one_sign(interval: Interval) -> bool:
    return interval.low >= 0 or interval.high <= 0


def shown(interval: Interval) -> str:
    if not interval.is_known:
        return "not known to be positive"
    return f"in [{interval.low:.4g}, {interval.high:.4g}]"


def _some(found: list[str]) -> tuple[str, ...]:
    more = len(found) - MAX_PATHS
    return (*found[:MAX_PATHS], *([f"and {more} more"] if more > 0 else []))


def half_unused(span: Span, found: list[str]) -> Diagnostic:
    """QR513."""
    count = "one operand" if len(found) == 1 else f"{len(found)} operands"
    return Diagnostic(
        Code.WASTED_RANGE,
        f"{count} of one sign on a symmetric signed grid: half of its codes are never used",
        Label(span, "signed and symmetric"),
        notes=_some(found),
        help="use an unsigned format, or `asymmetric` integers: it is worth one bit",
    )


def negatives_cut(span: Span, found: list[str]) -> Diagnostic:
    """QR518."""
    count = "one operand" if len(found) == 1 else f"{len(found)} operands"
    return Diagnostic(
        Code.NEGATIVES_CUT,
        f"a symmetric unsigned grid has nothing below zero, which {count} may be",
        Label(span, "unsigned and symmetric"),
        notes=_some(found),
        help="use a signed format, or `asymmetric` integers",
    )
