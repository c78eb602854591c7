"""Find the repeated blocks of a model: residual blocks, transformer layers.

A block is a child of a ``ModuleList`` or ``Sequential`` that is more than one layer and has one
main output; blocks inside blocks win. These are the units of BRECQ (arXiv 2102.05426). A model
without such containers is cut where all of its main values pass through one node.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf
from typing import TypeAlias

import networkx as nx
from torch import fx

from qcompile.capture.main_path import main_nodes
from qcompile.capture.node_meta import call_name, facts
from qcompile.capture.stretches import Stretch, calls_by_path
from qcompile.policy.site import Kind, Site

LAYERS: tuple[Kind, ...] = (Kind.CONV, Kind.LINEAR, Kind.EMBEDDING)
JOINS: tuple[Kind, ...] = (Kind.ADD, Kind.MUL, Kind.MATMUL, Kind.CONCAT, Kind.ATTENTION)

SOURCE = "source"
"""Stands before all inputs."""

_Rooted: TypeAlias = "nx.DiGraph[fx.Node | str]"


def is_layer(site: Site) -> bool:
    """A site with weights that are worth tuning; a norm is not one."""
    return site.kind in LAYERS and site.weight is not None


@dataclass(frozen=True)
class BlockSearch:
    module: fx.GraphModule
    nodes: list[fx.Node]
    """``computing_nodes`` of ``module``."""
    sites: tuple[Site, ...]

    def run(self) -> list[Stretch]:
        """The blocks, in order; they do not overlap."""
        main = main_nodes(self.module)
        return innermost(self._by_container(main) or self._by_dominators(main))

    @cached_property
    def _position(self) -> Mapping[fx.Node, int]:
        return {node: at for at, node in enumerate(self.nodes)}

    @cached_property
    def _kinds(self) -> Mapping[str, Kind]:
        """By the name of the site's node."""
        return {site.node: site.kind for site in self.sites}

    @cached_property
    def _placed(self) -> tuple[list[int], list[Site]]:
        """The sites in execution order, and their positions among ``nodes``."""
        at = {node.name: place for place, node in enumerate(self.nodes)}
        pairs = sorted(
            ((at[site.node], site) for site in self.sites if site.node in at),
            key=lambda pair: pair[0],
        )
        return [place for place, _ in pairs], [site for _, site in pairs]

    # ---- by module hierarchy --------------------------------------------------------------------

    def _by_container(self, main: frozenset[fx.Node]) -> list[Stretch]:
        accepted: list[Stretch] = []
        for children in self._children().values():
            weighted = [child for child in children if self._sites_in(child, layers=True)]
            chain = min((child.start for child in children), default=0)
            good = [child for child in weighted if self._is_block(child, chain, main)]
            # a squeeze-and-excitation among plain layers is a detail of the block around it
            if 2 * len(good) >= len(weighted):
                accepted.extend(good)
        return accepted

    def _children(self) -> dict[str, list[Stretch]]:
        """Calls of the children of each container."""
        containers = {
            call_name(call.path, call.call): call.container
            for node in self.nodes
            for call in facts(node).stack
            if call.container is not None
        }
        known = set(containers.values())
        children: dict[str, list[Stretch]] = {}
        for path, calls in calls_by_path(self.nodes).items():
            holder = path.rpartition(".")[0]
            for call in calls:
                if call.name in containers or holder in known:
                    children.setdefault(containers.get(call.name, holder), []).append(call)
        return children

    def _is_block(self, child: Stretch, chain: int, main: frozenset[fx.Node]) -> bool:
        """More than one layer; one main output; one main input from within the ``chain``."""
        layers = self._sites_in(child, layers=True)
        joins = [site for site in self._sites_in(child, layers=False) if site.kind in JOINS]
        if len(layers) < 2 and not joins:
            return False
        inside = set(self.nodes[child.start : child.stop])
        outputs = [node for node in inside if node in main and not inside.issuperset(node.users)]
        inputs = {
            item
            for node in inside
            for item in node.all_input_nodes
            if item in main and chain <= self._position.get(item, -1) < child.start
        }
        return len(outputs) == 1 and len(inputs) <= 1

    def _sites_in(self, stretch: Stretch, *, layers: bool) -> list[Site]:
        places, sites = self._placed
        first, last = bisect_left(places, stretch.start), bisect_left(places, stretch.stop)
        return [site for site in sites[first:last] if is_layer(site) or not layers]

    # ---- by dominators --------------------------------------------------------------------------

    def _by_dominators(self, main: frozenset[fx.Node]) -> list[Stretch]:
        """Stretches between two cut points that hold more than one layer."""
        position = self._position
        cuts = [position[node] + 1 for node in self._cut_points(main) if node in position]
        blocks: list[Stretch] = []
        for start, stop in zip([0, *cuts], cuts, strict=False):
            found = Stretch("", start, stop)
            layers = self._sites_in(found, layers=True)
            if len(layers) >= 2:
                blocks.append(Stretch(layers[0].key, start, self._absorb(stop)))
        return blocks

    def _cut_points(self, main: frozenset[fx.Node]) -> list[fx.Node]:
        """Nodes that every path from the inputs to the output passes, in order."""
        output = next(iter(reversed(self.module.graph.nodes)))
        inputs = [node for node in self.module.graph.nodes if node.op == "placeholder"]
        kept = {*main, *(node for node in inputs if facts(node).is_float), output}
        view: _Rooted = nx.DiGraph()
        for node in kept:
            before: list[fx.Node | str] = [item for item in node.all_input_nodes if item in kept]
            view.add_edges_from((item, node) for item in (before or [SOURCE]))
        dominators = nx.immediate_dominators(view, SOURCE)
        chain: list[fx.Node] = []
        node = dominators.get(output, SOURCE)
        while isinstance(node, fx.Node):
            chain.append(node)
            node = dominators[node]
        return chain[::-1]

    def _absorb(self, stop: int) -> int:
        """The position after the nodes that only follow the block, such as its last activation."""
        while stop < len(self.nodes) and self._only_follows(stop):
            stop += 1
        return stop

    def _only_follows(self, position: int) -> bool:
        node = self.nodes[position]
        return (
            node.all_input_nodes == [self.nodes[position - 1]]
            and self._kinds.get(node.name) is Kind.ACTIVATION
        )


def innermost(blocks: Sequence[Stretch]) -> list[Stretch]:
    """Those that hold no other one, in order; neither of two of the same extent."""
    twins = Counter((block.start, block.stop) for block in blocks)
    kept: list[Stretch] = []
    least_stop: float = inf
    for block in sorted(blocks, key=lambda one: (one.start, -one.stop), reverse=True):
        if block.stop < least_stop and twins[block.start, block.stop] == 1:
            kept.append(block)
        least_stop = min(least_stop, block.stop)
    return kept[::-1]


def positions_of_layers(nodes: Sequence[fx.Node], sites: tuple[Site, ...]) -> set[int]:
    layers = {site.node for site in sites if is_layer(site)}
    return {position for position, node in enumerate(nodes) if node.name in layers}
