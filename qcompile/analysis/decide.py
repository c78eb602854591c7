"""From the resolution to the plan of each site: which tensors, in which format, how many bytes."""

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from types import MappingProxyType

from torch import fx

from qcompile.analysis.block_axis import block_axis
from qcompile.analysis.shared_operands import Shares
from qcompile.capture.node_meta import facts
from qcompile.capture.unit import Unit
from qcompile.policy.core import SitePlan, TensorPlan
from qcompile.policy.number_format import has_blocks
from qcompile.policy.resolution import Decision, Resolution
from qcompile.policy.scheme import FloatSlot, PerChannel, QuantSlot
from qcompile.policy.site import Kind, Site
from qcompile.policy.size import activation_bytes, weight_bytes

WEIGHTED = frozenset({Kind.CONV, Kind.LINEAR, Kind.EMBEDDING, Kind.MATMUL})
"""Kinds whose weight is worth packing: a norm's gain is a vector, not a matrix of products."""

NO_SHARES: Shares = MappingProxyType({})

ITEM_BYTES = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
}


def decide(
    graph: fx.GraphModule,
    sites: Sequence[Site],
    units: Sequence[Unit],
    resolution: Resolution,
    shares: Shares = NO_SHARES,
) -> tuple[SitePlan, ...]:
    """Plans of the sites that a rule matched, in execution order.

    ``sites`` are those of ``graph`` as it will be run; a decision on a site that a transform took
    away (a folded norm) has nothing to act on and is left out.
    """
    decisions = {decision.site.key: decision for decision in resolution.decisions}
    unit_of = {name: unit.name for unit in units for name in unit.nodes}
    nodes = {node.name: node for node in graph.graph.nodes}
    plans: list[SitePlan] = []
    for site in sites:
        decision = decisions.get(site.key)
        if decision is None or decision.rule is None:
            continue
        plans.append(
            SitePlan(
                key=site.key,
                path=site.path,
                call=site.call,
                node=site.node,
                kind=site.kind.value,
                unit=unit_of[site.node],
                scheme=decision.scheme,
                decided_by=decision.rule.reference,
                tensors=tuple(_tensors(site, decision, nodes, graph, shares)),
            )
        )
    return tuple(plans)


def quantizes_weight(site: Site, decision: Decision) -> bool:
    """The decision puts a weight that the site has on a grid."""
    slot = decision.slots["weight"]
    return isinstance(slot, QuantSlot) and site.weight is not None and site.kind in WEIGHTED


def _tensors(
    site: Site,
    decision: Decision,
    nodes: Mapping[str, fx.Node],
    graph: fx.GraphModule,
    shares: Shares,
) -> Iterator[TensorPlan]:
    if quantizes_weight(site, decision):
        yield _weight(site, decision)
    for position, operand in enumerate(site.operands):
        slot = "act" if position == 0 else "act2"
        spec = decision.slots[slot]
        if isinstance(spec, FloatSlot):
            continue
        assert decision.rule is not None, "an untouched site has no quantized slot"
        channels = _channels(nodes[operand], spec)
        share = shares.get((site.key, position))
        axis = None
        if has_blocks(spec.format):
            axis = block_axis(nodes[site.node], site.kind, nodes[operand], graph)
        yield TensorPlan(
            slot=slot,
            spec=spec,
            operand=operand,
            channels=channels,
            block_axis=axis,
            bytes_before=0,
            bytes_after=activation_bytes(spec, channels),
            decided_by=decision.rule.reference,
            patched_by=tuple(rule.reference for rule in decision.patched_by(slot)),
            shared_by=None if share is None else share.reference,
        )


def _weight(site: Site, decision: Decision) -> TensorPlan:
    spec, parameter = decision.slots["weight"], site.weight
    assert isinstance(spec, QuantSlot)
    assert parameter is not None
    assert decision.rule is not None
    return TensorPlan(
        slot="weight",
        spec=spec,
        parameter=parameter.path,
        storage=parameter.storage,
        shape=parameter.shape,
        output_axis=site.output_axis,
        bytes_before=prod(parameter.shape) * ITEM_BYTES[parameter.dtype],
        bytes_after=weight_bytes(spec, parameter.shape, site.output_axis),
        decided_by=decision.rule.reference,
        patched_by=tuple(rule.reference for rule in decision.patched_by("weight")),
    )


def _channels(node: fx.Node, spec: QuantSlot) -> int | None:
    """Length of the axis with one scale an index, where it is a number."""
    shape = facts(node).shape
    if not isinstance(spec.granularity, PerChannel) or shape is None:
        return None
    size = shape[spec.granularity.axis]
    return size if isinstance(size, int) else None
