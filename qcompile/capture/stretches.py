"""Contiguous stretches of the node list: what one call of a module covers.

Nodes stand in execution order, so the nodes of one module call are neighbours.
"""

from bisect import bisect_right
from dataclasses import dataclass

from torch import fx

from qcompile.capture.node_meta import call_name, facts


@dataclass(frozen=True, slots=True)
class Stretch:
    """Positions ``[start, stop)`` in ``computing_nodes``."""

    name: str
    start: int
    stop: int

    def overlaps(self, other: "Stretch") -> bool:
        return self.start < other.stop and other.start < self.stop

    def contains(self, other: "Stretch") -> bool:
        return self != other and self.start <= other.start and other.stop <= self.stop


class Apart:
    """Stretches of which no two overlap, in order."""

    def __init__(self) -> None:
        self.stretches: list[Stretch] = []

    def add(self, stretch: Stretch) -> Stretch | None:
        """Take ``stretch`` in, or leave it and return the first one that it overlaps."""
        place = bisect_right(self.stretches, stretch.start, key=lambda one: one.stop)
        rival = self.stretches[place] if place < len(self.stretches) else None
        if rival is not None and rival.overlaps(stretch):
            return rival
        self.stretches.insert(place, stretch)
        return None


def computing_nodes(module: fx.GraphModule) -> list[fx.Node]:
    """The nodes that units share out: no inputs, parameters, outputs, nor hoisted sizes."""
    return [
        node
        for node in module.graph.nodes
        if node.op not in {"placeholder", "get_attr", "output"} and not facts(node).hoisted
    ]


def calls_by_path(nodes: list[fx.Node]) -> dict[str, list[Stretch]]:
    """For each module path, one stretch a call, in order; ``path@1`` is the second call's name."""
    spans: dict[tuple[str, int], tuple[int, int]] = {}
    for position, node in enumerate(nodes):
        for path, call in calls_around(node):
            start, _ = spans.get((path, call), (position, position))
            spans[path, call] = (start, position + 1)
    found: dict[str, list[Stretch]] = {}
    for (path, call), (start, stop) in sorted(spans.items(), key=lambda item: item[1]):
        found.setdefault(path, []).append(Stretch(call_name(path, call), start, stop))
    return found


def calls_around(node: fx.Node) -> list[tuple[str, int]]:
    """Path and call of every module that ``node`` is part of, a leaf included."""
    known = facts(node)
    calls = [(item.path, item.call) for item in known.stack]
    if node.op == "call_module":
        calls.append((str(node.target), known.call))
    return calls
