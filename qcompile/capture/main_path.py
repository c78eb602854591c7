"""The nodes that carry the model's own values, as against masks, positions and sizes."""

from typing import cast

from torch import fx, nn

from qcompile.capture.node_meta import facts
from qcompile.compat.submodules import module_at


def main_nodes(module: fx.GraphModule) -> frozenset[fx.Node]:
    """Floating-point nodes with a parameter upstream."""
    touched: set[fx.Node] = set()
    for node in module.graph.nodes:
        if node.op in {"placeholder", "output"}:
            continue
        if _has_parameter(node, module) or any(i in touched for i in node.all_input_nodes):
            touched.add(node)
    return frozenset(node for node in touched if _may_be_float(node))


def _has_parameter(node: fx.Node, module: nn.Module) -> bool:
    path = str(node.target)
    if node.op == "call_module":
        return any(True for _ in module_at(module, path).parameters())
    if node.op != "get_attr":
        return False
    owner, _, name = path.rpartition(".")
    return isinstance(cast("object", getattr(module_at(module, owner), name)), nn.Parameter)


def _may_be_float(node: fx.Node) -> bool:
    """A tuple of tensors (``split``) counts; whole numbers and truth values do not."""
    known = facts(node)
    return known.is_float or not known.is_tensor
