"""The sums of products of an integer layer have to fit the accumulator."""

from collections import defaultdict
from collections.abc import Iterator

from qcompile.analysis.accumulator import bound
from qcompile.analysis.context import Context
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.diagnostics.source import Span
from qcompile.policy.graph_facts import Accumulator
from qcompile.policy.unmatched import MAX_PATHS


def accumulator_overflow(context: Context) -> Iterator[Diagnostic]:
    """QR517: one for each rule that decides such layers."""
    found: dict[Span, list[Accumulator]] = defaultdict(list)
    for site, decision in context.decided():
        worst = bound(site, decision)
        if worst is not None and worst.bits > context.accumulator_bits:
            found[context.slot_span(decision, "weight")].append(worst)
    for span, layers in found.items():
        yield may_overflow(span, layers, context.accumulator_bits)


def may_overflow(span: Span, layers: list[Accumulator], bits: int) -> Diagnostic:
    """QR517."""
    more = (f"and {len(layers) - MAX_PATHS} more",) if len(layers) > MAX_PATHS else ()
    what = f"of `{layers[0].site}`" if len(layers) == 1 else f"of {len(layers)} layers"
    listed = (
        f"{one.site}: {one.terms} products, up to {max(one.high, -one.low)}, {one.bits} bits"
        for one in layers[:MAX_PATHS]
    )
    return Diagnostic(
        Code.ACCUMULATOR_OVERFLOW,
        f"the integer sums {what} may not fit {bits} bits",
        Label(span, "with these weights"),
        notes=(*listed, *more),
        help="cut the sums with `per_group(n)`, or use fewer bits for weights or activations",
    )
