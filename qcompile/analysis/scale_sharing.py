"""Which values have to be on one grid, and why.

A grid is handed on by operations that only move values, shared where values of several tensors
end up in one, and shared by what is added code by code. The classes are the connected components
of those relations; a disagreement within one is shown with the shortest chain of operations that
ties both ends together.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

import networkx as nx
from torch import fx

from qcompile.capture.node_meta import facts
from qcompile.capture.roles import Role, carries, role_of
from qcompile.policy.graph_facts import ScaleClass


@dataclass(frozen=True, slots=True)
class Tie:
    """The operation ``node``, as what holds the values around it together."""

    node: fx.Node
    is_join: bool
    """It brings values together that need not have been on one grid: in floating point they may
    stay apart."""


Vertex: TypeAlias = fx.Node | Tie
Ties: TypeAlias = "nx.Graph[Vertex]"
"""Values and ties by turns, so that a join of n values takes n edges and not n * n."""


def scale_ties(module: fx.GraphModule) -> Ties:
    """All values of ``module`` and all ties between them; read-only."""
    ties: Ties = nx.Graph()
    for node in module.graph.nodes:
        if carries(node):
            ties.add_node(node)
        operands, ends = _ends(node, role_of(node, module))
        if len(ends) > 1:
            tie = Tie(node, operands > 1)
            ties.add_edges_from((end, tie) for end in ends)
    return nx.freeze(ties)


def _ends(node: fx.Node, role: Role | None) -> tuple[int, list[fx.Node]]:
    """How many operands have to be on one grid; they, and the result if it is on it too."""
    operands = [item for item in node.all_input_nodes if carries(item)]
    result = [node] if carries(node) else []
    match role:
        case Role.PASS:
            return 1, [*operands[:1], *result]
        case Role.MERGE:
            return len(operands), [*operands, *result]
        case Role.ADD:
            return len(operands), operands
        case _:
            return 0, []


def binding(ties: Ties, is_integer: Callable[[fx.Node], bool]) -> Ties:
    """The ties that bind when ``is_integer`` says which joins compute on codes."""

    def binds(vertex: Vertex) -> bool:
        return isinstance(vertex, fx.Node) or not vertex.is_join or is_integer(vertex.node)

    return nx.subgraph_view(ties, filter_node=binds)


def scale_classes(ties: Ties) -> tuple[ScaleClass, ...]:
    """The classes that some join holds together, each in execution order."""
    order = {vertex: place for place, vertex in enumerate(ties)}
    found: list[ScaleClass] = []
    for component in nx.connected_components(ties):
        members = sorted(component, key=order.__getitem__)
        joins = tuple(v.node.name for v in members if isinstance(v, Tie) and v.is_join)
        if joins:
            values = tuple(v.name for v in members if isinstance(v, fx.Node) and is_tensor(v))
            found.append(ScaleClass(values=values, joins=joins))
    return tuple(found)


def is_tensor(node: fx.Node) -> bool:
    """Not the tuple that an operation such as ``split`` returns."""
    return facts(node).is_tensor


def shortest_chain(
    ties: Ties, sources: Iterable[fx.Node], targets: Iterable[fx.Node]
) -> tuple[Vertex, ...]:
    """The fewest ties from one of ``sources`` to one of ``targets``, both ends included.

    One breadth-first walk from all sources at once; empty where no chain exists.
    """
    goals = set(targets)
    before: dict[Vertex, Vertex | None] = dict.fromkeys(sources)
    wave: list[Vertex] = list(before)
    while wave:
        reached = next((vertex for vertex in wave if vertex in goals), None)
        if reached is not None:
            return _back(reached, before)
        following: list[Vertex] = []
        for vertex in wave:
            for neighbour in ties[vertex]:
                if neighbour not in before:
                    before[neighbour] = vertex
                    following.append(neighbour)
        wave = following
    return ()


def _back(end: Vertex, before: dict[Vertex, Vertex | None]) -> tuple[Vertex, ...]:
    chain: list[Vertex] = []
    at: Vertex | None = end
    while at is not None:
        chain.append(at)
        at = before[at]
    return tuple(reversed(chain))
