"""Which values may be the same memory, and who writes to it.

What is not known to make memory of its own may be a view of anything it reads.
"""

from collections.abc import Sequence

from torch import fx, nn
from torch.fx.node import map_arg

from qcompile.capture.kinds import kind_of
from qcompile.capture.node_meta import facts
from qcompile.capture.operations import bare_name, mutates
from qcompile.compat.submodules import module_at

OWN = "qcompile."
"""Functions of ours give memory of their own."""
MAY_BE_VIEWS = frozenset({"einsum", "with_rows_of", "more_columns_than_one", "max_pool_codes"})
"""But these: a transposition may be written as a product, and what is only looked at stays."""
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
CASTS = frozenset({"float", "half", "double", "bfloat16", "long", "int", "bool", "to", "type"})
PADS = (
    *(nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d),
    *(nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d),
    *(nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d),
    *(nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ReplicationPad3d),
    *(nn.CircularPad1d, nn.CircularPad2d, nn.CircularPad3d),
)


def makes_memory(module: fx.GraphModule, node: fx.Node) -> bool:
    """Whether the result is surely no view of what ``node`` reads."""
    name = bare_name(node)
    if mutates(node, module) or name in MAY_BE_VIEWS:
        return False
    if kind_of(node, module) is not None:
        return True
    if node.op == "call_module":
        leaf = module_at(module, str(node.target))
        return isinstance(leaf, PADS) or type(leaf).__module__.startswith(OWN)
    is_own = str(getattr(node.target, "__module__", "")).startswith(OWN)
    is_call = node.op in {"call_function", "call_method"}
    return is_own or (is_call and (name in FRESH or (name in CASTS and _changes_type(node))))


def _changes_type(node: fx.Node) -> bool:
    """A cast to the type that its input has already gives that input."""
    made, given = facts(node).dtype, facts(node.all_input_nodes[0]).dtype
    return made is not None and given is not None and made != given


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
    """What a node writes to: what it is given as ``out``, else as its first argument.

    All inputs, where that is none: a call by names of its own.
    """
    given = (node.kwargs.get("out"), *node.args[:1], *map(node.kwargs.get, ("input", "self")))
    written = next((item for item in given if item is not None), None)
    found: list[fx.Node] = []
    map_arg(written, lambda used: found.append(used) or used)
    return found or node.all_input_nodes


def may_be_written(module: fx.GraphModule, value: fx.Node, first: fx.Node, last: fx.Node) -> bool:
    """Behind ``first`` and in front of ``last``, also through a view of it, or what it views."""
    memory = memory_of(module, value)
    node = first.next
    while node is not last and node.op != "root":
        if memory & written_memory(module, node):
            return True
        node = node.next
    return False
