"""Whether somebody may write to a value between two places of a graph."""

from torch import fx

from qcompile.capture.kinds import kind_of
from qcompile.passes.sweep_node import is_in_place

OWN = "qcompile."
"""Functions of ours give memory of their own."""


def may_be_written(module: fx.GraphModule, value: fx.Node, first: fx.Node, last: fx.Node) -> bool:
    """Behind ``first`` and in front of ``last``, also through a view of it, or what it views."""
    memory = _memory(module, value)
    node = first.next
    while node is not last and node.op != "root":
        if is_in_place(module, node):
            written = (*node.args[:1], node.kwargs.get("out"))
            nodes = [one for one in written if isinstance(one, fx.Node)]
            if any(memory & _memory(module, one) for one in nodes):
                return True
        node = node.next
    return False


def _memory(module: fx.GraphModule, node: fx.Node) -> frozenset[fx.Node]:
    """``node``, and all that its memory may belong to as well."""
    found: set[fx.Node] = set()
    pending = [node]
    while pending:
        one = pending.pop()
        if one not in found:
            found.add(one)
            if not _makes_memory(module, one):
                pending.extend(one.all_input_nodes)
    return frozenset(found)


def _makes_memory(module: fx.GraphModule, node: fx.Node) -> bool:
    if is_in_place(module, node):
        return False
    is_own = str(getattr(node.target, "__module__", "")).startswith(OWN)
    return is_own or kind_of(node, module) is not None
