"""Captured graphs of any size, as the tracer would have left them, and models without weights."""

import torch
from torch import fx, nn

from qcompile.capture.node_meta import ModuleCall, NodeFacts, set_facts

NODES_PER_BLOCK = 5


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(8, 8)
        self.act = nn.ReLU()
        self.down = nn.Linear(8, 8)


class Chain(nn.Module):
    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.stem = nn.Linear(8, 8)
        self.blocks = nn.ModuleList(Block() for _ in range(blocks))
        self.head = nn.Linear(8, 4)


def residual_chain(nodes: int) -> fx.GraphModule:
    """About ``nodes`` nodes: residual blocks one behind the other, between two linear layers."""
    blocks = nodes // NODES_PER_BLOCK
    graph = fx.Graph()
    with torch.device("meta"):
        root = Chain(blocks)
    x = _known(graph.placeholder("x"))
    x = _known(graph.call_module("stem", (x,)))
    for number in range(blocks):
        call = ModuleCall(f"blocks.{number}", "Block", 0, "blocks")
        y = _known(graph.call_module(f"{call.path}.up", (x,)), call)
        y = _known(graph.call_module(f"{call.path}.act", (y,)), call)
        y = _known(graph.call_module(f"{call.path}.down", (y,)), call)
        y = _known(graph.call_method("contiguous", (y,)), call)
        x = _known(graph.call_function(torch.add, (x, y)), call)
    graph.output(_known(graph.call_module("head", (x,))))
    return fx.GraphModule(root, graph)


def _known(node: fx.Node, *stack: ModuleCall) -> fx.Node:
    set_facts(node, NodeFacts(stack=stack, shape=("s0", 8), example=(2, 8), dtype="float32"))
    return node
