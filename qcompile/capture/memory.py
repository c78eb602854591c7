"""Which values may be the same memory, and who writes to it.

What is not known to make memory of its own may be a view of anything it reads, so that no answer
here is too few.
"""

from collections.abc import Sequence
from typing import cast

from torch import fx

from qcompile.capture.kinds import kind_of
from qcompile.capture.operations import bare_name, mutates

OWN = "qcompile."
"""Functions of ours give memory of their own."""
MAY_BE_VIEWS = frozenset({"einsum", "with_rows_of"})
"""But these: a transposition may be written as a product, and rows are put into shape."""
FRESH = frozenset(
    {
        *("abs", "ceil", "clamp", "clip", "clone", "cos", "erf", "exp", "floor", "log", "neg"),
        *("pow", "reciprocal", "round", "rsqrt", "sin", "sqrt", "div", "truediv", "floordiv"),
        *("floor_divide", "maximum", "minimum", "where", "masked_fill", "and", "or"),
        *("logical_and", "logical_or", "eq", "ne", "ge", "gt", "le", "lt"),
        *("amax", "mean", "sum", "cumsum", "diff", "gather", "stack", "pad"),
        *("arange", "ones", "zeros", "new_ones", "new_zeros"),
    }
)
"""Operations without a kind whose results are new numbers."""


def makes_memory(module: fx.GraphModule, node: fx.Node) -> bool:
    """Whether the result is surely no view of what ``node`` reads."""
    name = bare_name(node)
    if mutates(node, module) or name in MAY_BE_VIEWS:
        return False
    is_own = str(getattr(node.target, "__module__", "")).startswith(OWN)
    is_call = node.op in {"call_function", "call_method"}
    return is_own or kind_of(node, module) is not None or (is_call and name in FRESH)


def memory_of(module: fx.GraphModule, node: fx.Node) -> frozenset[fx.Node]:
    """``node``, and all that its memory may belong to as well."""
    found: set[fx.Node] = set()
    pending = [node]
    while pending:
        one = pending.pop()
        if one not in found:
            found.add(one)
            pending.extend(_same_memory(module, one))
    return frozenset(found)


def written_memory(module: fx.GraphModule, node: fx.Node) -> frozenset[fx.Node]:
    """All that ``node`` may write to; nothing where it writes to none of its inputs."""
    if not mutates(node, module):
        return frozenset()
    return frozenset().union(*(memory_of(module, target) for target in _targets(node)))


def overwritten(module: fx.GraphModule, node: fx.Node) -> frozenset[fx.Node]:
    """``written_memory`` with all views of it, but the result of ``node`` and views of that."""
    found: set[fx.Node] = set()
    pending = list(written_memory(module, node))
    while pending:
        one = pending.pop()
        if one not in found and one is not node:
            found.add(one)
            pending.extend(user for user in one.users if one in _same_memory(module, user))
    found -= set(module.graph.find_nodes(op="output"))
    return frozenset(found)


def _same_memory(module: fx.GraphModule, node: fx.Node) -> Sequence[fx.Node]:
    """Inputs of which ``node`` may be the memory."""
    if mutates(node, module):
        return _targets(node)
    return () if makes_memory(module, node) else node.all_input_nodes


def _targets(node: fx.Node) -> Sequence[fx.Node]:
    """What a node writes to: what it is given as ``out``, else the first of its inputs."""
    out = node.kwargs.get("out")
    if out is None:
        return node.all_input_nodes[:1]
    return [cast("fx.Node", item) for item in (out if isinstance(out, tuple | list) else (out,))]


def may_be_written(module: fx.GraphModule, value: fx.Node, first: fx.Node, last: fx.Node) -> bool:
    """Behind ``first`` and in front of ``last``, also through a view of it, or what it views."""
    memory = memory_of(module, value)
    node = first.next
    while node is not last and node.op != "root":
        if memory & written_memory(module, node):
            return True
        node = node.next
    return False
