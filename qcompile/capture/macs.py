"""Multiply-accumulates of a node for one sample, from the shapes of the example."""

from math import prod

from torch import fx

from qcompile.capture.geometry import Geometry
from qcompile.capture.node_meta import facts
from qcompile.policy.site import Kind


def batch_size(graph: fx.Graph) -> int:
    """Length of axis 0 of the first input of the example."""
    for node in graph.find_nodes(op="placeholder"):
        example = facts(node).example
        if example:
            return example[0]
    return 1


def macs(
    node: fx.Node, kind: Kind, operands: tuple[fx.Node, ...], geometry: Geometry, batch: int
) -> int | None:
    """``None`` for what is not a product; ``batch`` is the length of the example's batch."""
    made = facts(node).example
    if made is None:
        return None
    match kind:
        case Kind.CONV | Kind.LINEAR if geometry.fan_in is not None:
            return prod(made) * geometry.fan_in // batch
        case Kind.CONV if geometry.fan_out is not None and operands:
            return prod(facts(operands[0]).example or ()) * geometry.fan_out // batch
        case Kind.MATMUL if operands:
            read = facts(operands[0]).example
            return prod(made) * read[-1] // batch if read else None
        case Kind.ATTENTION if len(operands) >= 2:
            query, key = (facts(operand).example for operand in operands[:2])
            if not query or not key:
                return None
            scores = prod(query[:-1]) * key[-2]
            return scores * (query[-1] + made[-1]) // batch
        case _:
            return None
