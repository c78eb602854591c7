import networkx as nx
import pytest

from qcompile.capture.graph_view import graph_view


def test_view_has_an_edge_for_each_read_and_no_cycle(captured):
    module = captured("residual_net")[2].module
    view = graph_view(module)
    reads = {(i, n) for n in module.graph.nodes for i in n.all_input_nodes}
    assert set(view.edges) == reads
    assert nx.is_directed_acyclic_graph(view)


def test_view_cannot_be_written(captured):
    view = graph_view(captured("mlp")[2].module)
    with pytest.raises(nx.NetworkXError):
        view.add_node("more")
