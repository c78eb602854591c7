"""Drop dropout: it is the identity in evaluation, and it hides what lies next to what."""

from dataclasses import dataclass
from typing import ClassVar, cast

from torch import fx

from qcompile.capture.copying import own_graph
from qcompile.capture.leaves import DROPOUTS
from qcompile.compat.submodules import module_at
from qcompile.passes.base import PassResult


@dataclass(frozen=True)
class RemoveDropout:
    name: ClassVar[str] = "remove_dropout"

    def run(self, module: fx.GraphModule) -> PassResult:
        if not any(_is_dropout(node, module) for node in module.graph.nodes):
            return PassResult(module, changed=False)
        result = own_graph(module)
        for node in list(result.graph.nodes):
            if _is_dropout(node, result):
                node.replace_all_uses_with(cast("fx.Node", node.all_input_nodes[0]))
                result.graph.erase_node(node)
        result.recompile()
        result.delete_all_unused_submodules()
        return PassResult(result, changed=True)


def _is_dropout(node: fx.Node, module: fx.GraphModule) -> bool:
    if node.op != "call_module":
        return False
    leaf = module_at(module, str(node.target))
    return isinstance(leaf, DROPOUTS) and not leaf.training
