"""A per-channel axis has to exist, and has to have one known length."""

from collections.abc import Iterator

from torch import fx

from qcompile.analysis.context import Context
from qcompile.capture.node_meta import facts
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.diagnostics.source import Span
from qcompile.policy.scheme import PerChannel, QuantSlot


def channel_axis(context: Context) -> Iterator[Diagnostic]:
    """QR410: for weights and for activations, once a place in the recipe."""
    seen: set[Span] = set()
    for site, decision, spec in context.weights():
        assert site.weight is not None
        shape = site.weight.shape
        span = context.slot_span(decision, "weight")
        found = _problem(spec, shape, span, f"the weight of `{site.path}` {list(shape)}")
        yield from _once(found, seen)
    nodes: dict[str, fx.Node] = {node.name: node for node in context.graph.graph.nodes}
    for site, decision in context.decided():
        for position, operand in enumerate(site.operands):
            slot = "act" if position == 0 else "act2"
            spec = decision.slots[slot]
            shape = facts(nodes[operand]).shape
            if not isinstance(spec, QuantSlot) or shape is None:
                continue
            span = context.slot_span(decision, slot)
            what = f"operand {position + 1} of `{site.path}` [{', '.join(map(str, shape))}]"
            yield from _once(_problem(spec, shape, span, what), seen)


def _problem(
    spec: QuantSlot, shape: tuple[int | str, ...], span: Span, what: str
) -> Diagnostic | None:
    if not isinstance(spec.granularity, PerChannel):
        return None
    axis = spec.granularity.axis
    if not -len(shape) <= axis < len(shape):
        return wrong_axis(span, f"{what} has no axis {axis}")
    if not isinstance(shape[axis], int):
        return wrong_axis(span, f"axis {axis} of {what} changes from input to input")
    return None


def _once(found: Diagnostic | None, seen: set[Span]) -> Iterator[Diagnostic]:
    if found is None or found.primary is None:
        return
    if found.primary.span not in seen:
        seen.add(found.primary.span)
        yield found


def wrong_axis(span: Span, why: str) -> Diagnostic:
    """QR410."""
    return Diagnostic(
        Code.VALUE_RANGE,
        why,
        Label(span, "`per_channel` along this axis"),
        help="name an axis of fixed length: `per_channel(-1)` is the last one",
    )
