"""Take one unit out of a captured graph as a module of its own."""

from torch import fx

from qcompile.capture.memory import written_memory
from qcompile.capture.node_meta import NodeFacts, facts, set_facts
from qcompile.capture.unit import Unit


def extract(module: fx.GraphModule, unit: Unit) -> fx.GraphModule:
    """A module from the values of ``unit.inputs`` to the tuple of ``unit.outputs``.

    Parameters and leaf modules are shared and keep their paths. An input that the unit would
    write to is cloned first, so that cached interface values stay as they are.
    """
    inside = set(unit.nodes)
    sources = {node.name: node for node in module.graph.nodes}
    written = _written_inputs(module, unit, sources)
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for name in unit.inputs:
        copies[sources[name]] = graph.placeholder(name)
        set_facts(copies[sources[name]], _at_the_edge(facts(sources[name])))
    for name in written:
        source = sources[name]
        clone = graph.call_method("clone", (copies[source],))
        set_facts(clone, _at_the_edge(facts(source)))
        copies[source] = clone
    for node in module.graph.nodes:
        if node.name in inside:
            for item in node.all_input_nodes:
                if item.op == "get_attr" and item not in copies:
                    copies[item] = graph.node_copy(item)
            copies[node] = graph.node_copy(node, lambda item: copies[item])
    graph.output(tuple(copies[sources[name]] for name in unit.outputs))
    graph.lint()
    return fx.GraphModule(module, graph, class_name="Unit").eval()


def _at_the_edge(known: NodeFacts) -> NodeFacts:
    return NodeFacts(shape=known.shape, example=known.example, dtype=known.dtype)


def _written_inputs(module: fx.GraphModule, unit: Unit, sources: dict[str, fx.Node]) -> list[str]:
    """Inputs that a node of the unit writes to, directly or through views."""
    written: set[str] = set()
    for name in unit.nodes:
        written |= {node.name for node in written_memory(module, sources[name])}
    return [name for name in unit.inputs if name in written]
