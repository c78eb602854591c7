"""A captured graph for graph algorithms; read-only."""

from typing import TypeAlias

import networkx as nx
from torch import fx

View: TypeAlias = "nx.DiGraph[fx.Node]"


def graph_view(module: fx.GraphModule) -> View:
    """Every node of the graph, with an edge from each value to its readers."""
    view: View = nx.DiGraph()
    view.add_nodes_from(module.graph.nodes)
    view.add_edges_from(
        (item, node) for node in module.graph.nodes for item in node.all_input_nodes
    )
    return nx.freeze(view)
