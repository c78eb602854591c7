"""Copies of a captured module that share what a pass does not change."""

from torch import fx, nn

from qcompile.compat.submodules import module_at


def own_graph(module: fx.GraphModule) -> fx.GraphModule:
    """A module with a graph of its own; leaves and parameters are shared."""
    graph = fx.Graph()
    graph.output(graph.graph_copy(module.graph, {}))
    return fx.GraphModule(module, graph, class_name=type(module).__name__).eval()


def replace_leaf(module: fx.GraphModule, path: str, leaf: nn.Module) -> None:
    """Put ``leaf`` at ``path``; the folders on the way belong to ``module`` alone."""
    owner, _, name = path.rpartition(".")
    setattr(module_at(module, owner), name, leaf)
