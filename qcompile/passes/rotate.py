"""Rotate what linear layers read, and their weights back: ``W x = (W R) (R x)``, ``R = R^-1``.

One rotation serves all layers of a module that read the same value in blocks of the same size.
(Shared by several modules it would be an output of the first, which is no block then.)
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, cast

from torch import fx, nn

from qcompile.capture.balance import ChannelBalance
from qcompile.capture.copying import own_graph, replace_leaf, with_weight
from qcompile.capture.node_meta import facts, set_facts
from qcompile.capture.operations import mutates
from qcompile.capture.rotation import BlockRotation, rotated
from qcompile.compat.submodules import module_at
from qcompile.passes.base import PassResult


@dataclass(frozen=True)
class Rotate:
    blocks: Mapping[str, int]
    """By the path of an ``nn.Linear`` that is called once and shares no parameter."""
    balanced: frozenset[str] = frozenset()
    """Paths of those in front of whose rotation channels will be balanced.

    One without a bias gets one, of zeros: it is to make good what means are taken out.
    """

    name: ClassVar[str] = "rotate"

    def run(self, module: fx.GraphModule) -> PassResult:
        if not self.blocks:
            return PassResult(module, changed=False)
        result = own_graph(module)
        shared: dict[tuple[object, ...], fx.Node] = {}
        for node in list(result.graph.nodes):
            if mutates(node, result):
                shared.clear()  # it may have written to what was rotated
            path = str(node.target)
            if node.op != "call_module" or path not in self.blocks:
                continue
            source, block = node.all_input_nodes[0], self.blocks[path]
            has_balance = path in self.balanced
            place = (source, block, has_balance, facts(node).stack[-1:])
            if place not in shared:
                size = _linear(result, path).in_features
                before = source
                if has_balance:
                    leaf = ChannelBalance(size).to(_linear(result, path).weight)
                    before = _inserted(result, node, source, leaf, "balance")
                turn = BlockRotation(size, block)
                shared[place] = _inserted(result, node, before, turn, "rotation")
            node.replace_input_with(source, shared[place])
            layer = _linear(result, path)
            turned = with_weight(layer, rotated(layer.weight.detach(), block))
            if has_balance and cast("nn.Parameter | None", turned.bias) is None:
                zeros = turned.weight.new_zeros(turned.out_features)
                turned.bias = nn.Parameter(zeros, requires_grad=layer.weight.requires_grad)
            replace_leaf(result, path, turned)
        result.recompile()
        return PassResult(result, changed=True)


def rotations(module: fx.GraphModule) -> dict[str, int]:
    """Blocks of the rotations of a graph, by the first node that reads each."""
    found: dict[str, int] = {}
    for node in module.graph.find_nodes(op="call_module"):
        leaf = module_at(module, str(node.target))
        if isinstance(leaf, BlockRotation):
            found[next(iter(node.users)).name] = leaf.block
    return found


def _inserted(
    module: fx.GraphModule, reader: fx.Node, source: fx.Node, leaf: nn.Module, what: str
) -> fx.Node:
    """A call of ``leaf`` on ``source`` right in front of its first reader."""
    owner, _, name = f"{reader.target}_{what}".rpartition(".")
    folder = module_at(module, owner)
    while hasattr(folder, name):
        name += "_"
    setattr(folder, name, leaf.eval())
    with module.graph.inserting_before(reader):
        node = module.graph.call_module(f"{owner}.{name}" if owner else name, (source,))
    set_facts(node, replace(facts(source), stack=facts(reader).stack, call=0))
    return node


def _linear(module: fx.GraphModule, path: str) -> nn.Linear:
    return cast("nn.Linear", module_at(module, path))
