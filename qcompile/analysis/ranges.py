"""Bounds on every value of a graph that hold for all inputs, by abstract interpretation.

One pass in execution order: each operation maps the intervals of what it reads to one of what it
returns. What is unknown is unbounded, so that a bound is always a proof. Bounds are of the float
model; behind a quantizer zero stays zero, so that signs hold for the quantized model as well.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from torch import Tensor, fx, nn

from qcompile.analysis.interval import ANYTHING, Interval
from qcompile.analysis.transfer import FUNCTIONS, MODULES, Reading
from qcompile.capture.kinds import is_structural
from qcompile.capture.operations import bare_name, mutates
from qcompile.capture.roles import Role, role_of
from qcompile.compat.submodules import module_at

LARGEST_CONSTANT = 1 << 16
"""Elements of a parameter that are looked at; what is larger is taken for unbounded."""


def ranges_of(module: fx.GraphModule) -> Mapping[fx.Node, Interval]:
    """An interval for every node; of a tuple of tensors, for all of its elements."""
    found: dict[fx.Node, Interval] = {}
    aliases = _Aliases()
    for node in module.graph.nodes:
        found[node] = _range(node, module, found)
        if mutates(node, module):
            found.update(dict.fromkeys(aliases.written_by(node), ANYTHING))
        elif is_structural(node, module):
            aliases.add_view(node)
    return found


@dataclass(frozen=True, slots=True)
class _Aliases:
    """Which earlier nodes may share memory with a node, through views and writes in place."""

    roots: dict[fx.Node, fx.Node] = field(default_factory=dict[fx.Node, fx.Node])
    members: dict[fx.Node, list[fx.Node]] = field(default_factory=dict[fx.Node, list[fx.Node]])

    def add_view(self, node: fx.Node) -> None:
        for base in node.all_input_nodes[:1]:
            root = self.roots.setdefault(base, base)
            self.roots[node] = root
            self.members.setdefault(root, [root]).append(node)

    def written_by(self, node: fx.Node) -> list[fx.Node]:
        """The nodes whose value is no longer what it was; ``node`` itself is what is left."""
        base = node.all_input_nodes[0]
        root = self.roots.setdefault(base, base)
        stale = self.members.get(root, [base])
        self.roots[node] = root
        self.members[root] = [node]
        return stale


def _range(node: fx.Node, module: fx.GraphModule, found: Mapping[fx.Node, Interval]) -> Interval:
    match node.op:
        case "get_attr":
            return _of_constant(module, str(node.target))
        case "call_module":
            leaf = module_at(module, str(node.target))
            of_module = MODULES.get(type(leaf))
            if of_module is not None:
                return of_module(Reading(node, found), leaf)
        case "call_function" | "call_method":
            function = FUNCTIONS.get(bare_name(node))
            if function is not None:
                return function(Reading(node, found))
        case _:
            return ANYTHING
    is_moved = role_of(node, module) is Role.PASS and node.all_input_nodes
    return found[node.all_input_nodes[0]] if is_moved else ANYTHING


def _of_constant(module: nn.Module, path: str) -> Interval:
    owner, _, name = path.rpartition(".")
    value = cast("object", getattr(module_at(module, owner), name))
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.is_meta:
        return ANYTHING
    if not 0 < value.numel() <= LARGEST_CONSTANT:
        return ANYTHING
    low, high = (end.item() for end in value.detach().double().aminmax())
    return Interval(low, high) if low <= high else ANYTHING  # not a number
