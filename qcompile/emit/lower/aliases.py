"""Which values may be the same memory, and whether somebody may write to one in between."""

from torch import fx

from qcompile.capture.kinds import kind_of
from qcompile.capture.operations import bare_name
from qcompile.passes.sweep_node import is_in_place

OWN = "qcompile."
"""Functions of ours give memory of their own."""
MAY_BE_VIEWS = frozenset({"einsum", "with_rows_of"})
"""But these: a transposition may be written as a product, and rows are put into shape."""


def may_be_written(module: fx.GraphModule, value: fx.Node, first: fx.Node, last: fx.Node) -> bool:
    """Behind ``first`` and in front of ``last``, also through a view of it, or what it views."""
    memory = _memory(module, value)
    node = first.next
    while node is not last and node.op != "root":
        if is_in_place(module, node):
            used = node.all_input_nodes  # one of them is written to
            if any(memory & _memory(module, one) for one in used):
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
            if not makes_memory(module, one):
                pending.extend(one.all_input_nodes)
    return frozenset(found)


def makes_memory(module: fx.GraphModule, node: fx.Node) -> bool:
    """Whether the result is surely no view of what ``node`` reads."""
    if is_in_place(module, node) or bare_name(node) in MAY_BE_VIEWS:
        return False
    is_own = str(getattr(node.target, "__module__", "")).startswith(OWN)
    return is_own or kind_of(node, module) is not None
