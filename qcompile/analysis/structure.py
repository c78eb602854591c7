"""One captured graph, prepared for the rules: what reads what, what shares a grid, what is bounded.

Everything is found once and in time linear in the nodes (sorting apart); rules only look it up.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import fx

from qcompile.analysis.interval import ANYTHING, Interval
from qcompile.analysis.ranges import ranges_of
from qcompile.analysis.scale_sharing import Ties, scale_ties
from qcompile.policy.site import Site


@dataclass(frozen=True, slots=True, eq=False)
class Structure:
    nodes: Mapping[str, fx.Node]
    sites: Mapping[str, Site]
    """By the name of their node."""
    ties: Ties
    ranges: Mapping[fx.Node, Interval]

    @classmethod
    def of(cls, module: fx.GraphModule, sites: Sequence[Site]) -> "Structure":
        return cls(
            nodes={node.name: node for node in module.graph.nodes},
            sites={site.node: site for site in sites},
            ties=scale_ties(module),
            ranges=ranges_of(module),
        )

    def range_of(self, name: str) -> Interval:
        node = self.nodes.get(name)
        return ANYTHING if node is None else self.ranges[node]
