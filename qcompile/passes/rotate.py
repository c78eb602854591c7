"""Rotate what linear layers read, and their weights back: ``W x = (W R^T) (R x)``.

One rotation serves all layers that read the same value in blocks of the same size.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, cast

from torch import Tensor, fx, nn

from qcompile.capture.copying import own_graph, replace_leaf
from qcompile.capture.leaves import build_leaf, constructor_arguments
from qcompile.capture.node_meta import facts, set_facts
from qcompile.capture.rotation import BlockRotation, hadamard
from qcompile.compat.submodules import module_at
from qcompile.passes.base import PassResult


@dataclass(frozen=True)
class Rotate:
    blocks: Mapping[str, int]
    """By the path of an ``nn.Linear`` that is called once and shares no parameter."""

    name: ClassVar[str] = "rotate"

    def run(self, module: fx.GraphModule) -> PassResult:
        if not self.blocks:
            return PassResult(module, changed=False)
        result = own_graph(module)
        rotated: dict[tuple[fx.Node, int], fx.Node] = {}
        for node in list(result.graph.find_nodes(op="call_module")):
            path = str(node.target)
            if path not in self.blocks:
                continue
            block = self.blocks[path]
            source = node.all_input_nodes[0]
            if (source, block) not in rotated:
                rotated[source, block] = _inserted(result, node, source, block)
            node.replace_input_with(source, rotated[source, block])
            replace_leaf(result, path, _turned_back(_linear(result, path), block))
        result.recompile()
        return PassResult(result, changed=True)


def rotated_weight(weight: Tensor, block: int) -> Tensor:
    """``W R^T`` of ``[out, in]``, computed in float64 and rounded once."""
    rows, features = weight.shape
    stretches = weight.detach().double().reshape(rows, features // block, block)
    turned = stretches @ hadamard(block).to(weight.device)
    return turned.reshape(rows, features).to(weight.dtype)


def _inserted(module: fx.GraphModule, reader: fx.Node, source: fx.Node, block: int) -> fx.Node:
    """A rotation of ``source`` right in front of its first reader."""
    path = f"{reader.target}_rotation"
    while any(path == name for name, _ in module.named_modules()):
        path += "_"
    owner, _, name = path.rpartition(".")
    leaf = BlockRotation(_linear(module, str(reader.target)).in_features, block).eval()
    setattr(module_at(module, owner), name, leaf)
    with module.graph.inserting_before(reader):
        node = module.graph.call_module(path, (source,))
    set_facts(node, replace(facts(source), stack=facts(reader).stack, call=0))
    return node


def _linear(module: fx.GraphModule, path: str) -> nn.Linear:
    return cast("nn.Linear", module_at(module, path))


def _turned_back(layer: nn.Linear, block: int) -> nn.Linear:
    """A copy of the layer for rotated inputs; the original stays untouched."""
    found = cast("nn.Linear", build_leaf(nn.Linear, constructor_arguments(layer)))
    turned = rotated_weight(layer.weight, block)
    found.weight = nn.Parameter(turned, requires_grad=layer.weight.requires_grad)
    found.bias = layer.bias
    return found
