"""Captured graphs of any size, as the tracer would have left them, and models without weights."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import cast

import torch
from torch import Tensor, fx, nn

from qcompile.capture.node_meta import ModuleCall, NodeFacts, set_facts

NODES_PER_BLOCK = 5


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(8, 8)
        self.act = nn.ReLU()
        self.down = nn.Linear(8, 8)


class Generated(nn.Module):
    """``forward`` is there for its signature: the graph is made by hand."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.stem = nn.Linear(8, 8)
        self.blocks = nn.ModuleList(Block() for _ in range(blocks))
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return cast("Tensor", self.head(self.stem(x)))


def residual_chain(nodes: int) -> fx.GraphModule:
    """About ``nodes`` nodes: residual blocks one behind the other, between two linear layers."""
    graph, root, x = _begun(nodes // NODES_PER_BLOCK)
    for number in range(len(root.blocks)):
        call = _call(number)
        x = _add(graph, x, _block(graph, x, call), call)
    return _ended(graph, root, x)


def wide_fan(nodes: int) -> fx.GraphModule:
    """The same blocks side by side: one value feeds them all, one sum runs through all of them."""
    graph, root, x = _begun(nodes // NODES_PER_BLOCK)
    total = x
    for number in range(len(root.blocks)):
        call = _call(number)
        total = _add(graph, total, _block(graph, x, call), call)
    return _ended(graph, root, total)


def reused_block(nodes: int) -> fx.GraphModule:
    """The same chain through one and the same block, called again and again."""
    graph, root, x = _begun(1)
    for number in range(nodes // NODES_PER_BLOCK):
        call = _call(0, number)
        x = _add(graph, x, _block(graph, x, call), call)
    return _ended(graph, root, x)


SHAPES: Mapping[str, Callable[[int], fx.GraphModule]] = MappingProxyType(
    {"chain": residual_chain, "wide": wide_fan, "reused": reused_block}
)


def _begun(blocks: int) -> tuple[fx.Graph, Generated, fx.Node]:
    graph = fx.Graph()
    with torch.device("meta"):
        root = Generated(blocks).eval()
    x = _known(graph.placeholder("x"))
    return graph, root, _known(graph.call_module("stem", (x,)))


def _call(block: int, call: int = 0) -> ModuleCall:
    return ModuleCall(f"blocks.{block}", "Block", call, "blocks")


def _block(graph: fx.Graph, x: fx.Node, call: ModuleCall) -> fx.Node:
    y = _known(graph.call_module(f"{call.path}.up", (x,)), call)
    y = _known(graph.call_module(f"{call.path}.act", (y,)), call)
    y = _known(graph.call_module(f"{call.path}.down", (y,)), call)
    return _known(graph.call_method("contiguous", (y,)), call)


def _add(graph: fx.Graph, a: fx.Node, b: fx.Node, call: ModuleCall) -> fx.Node:
    return _known(graph.call_function(torch.add, (a, b)), call)


def _ended(graph: fx.Graph, root: Generated, x: fx.Node) -> fx.GraphModule:
    graph.output(_known(graph.call_module("head", (x,))))
    return fx.GraphModule(root, graph)


def _known(node: fx.Node, *calls: ModuleCall) -> fx.Node:
    call = calls[0].call if calls else 0
    known = NodeFacts(stack=calls, shape=("s0", 8), example=(2, 8), dtype="float32", call=call)
    set_facts(node, known)
    return node
