"""Copies of a captured module that share what a pass does not change."""

from typing import cast

from torch import Tensor, fx, nn

from qcompile.capture.leaves import build_leaf, constructor_arguments
from qcompile.capture.tensors import is_kept
from qcompile.compat.submodules import module_at


def own_graph(module: fx.GraphModule) -> fx.GraphModule:
    """A module with a graph of its own; leaves and parameters are shared."""
    graph = fx.Graph()
    graph.output(graph.graph_copy(module.graph, {}))
    made = fx.GraphModule(module, graph, class_name=type(module).__name__).eval()
    _keep_what_is_kept(module, made)
    return made


def _keep_what_is_kept(module: fx.GraphModule, made: fx.GraphModule) -> None:
    """Say again which buffers are not part of a state dict: ``fx`` forgets it."""
    for path in {str(node.target) for node in made.graph.nodes if node.op == "get_attr"}:
        owner, _, name = path.rpartition(".")
        before = module_at(module, owner)
        buffer = dict(before.named_buffers(recurse=False)).get(name)
        if buffer is not None and not is_kept(before, name):
            module_at(made, owner).register_buffer(name, buffer, persistent=False)


def replace_leaf(module: fx.GraphModule, path: str, leaf: nn.Module | nn.Parameter) -> None:
    """Put ``leaf`` at ``path``; the folders on the way belong to ``module`` alone.

    It may be a parameter that functions read.
    """
    owner, _, name = path.rpartition(".")
    setattr(module_at(module, owner), name, leaf)


def with_own_weight(leaf: nn.Module, weight: nn.Parameter) -> nn.Module:
    """Another leaf that shares everything with ``leaf`` but its ``weight``."""
    made = build_leaf(type(leaf), constructor_arguments(leaf))
    for name, parameter in leaf.named_parameters(recurse=False):
        made.register_parameter(name, parameter)
    for name, buffer in leaf.named_buffers(recurse=False):
        made.register_buffer(name, buffer, persistent=is_kept(leaf, name))
    made.register_parameter("weight", weight)
    return made.train(leaf.training)


def with_weight(layer: nn.Linear, weight: Tensor) -> nn.Linear:
    """Another layer with ``weight`` in the old one's type, which is rounded once, and its bias."""
    found = cast("nn.Linear", build_leaf(nn.Linear, constructor_arguments(layer)))
    old = layer.weight
    found.weight = nn.Parameter(weight.to(old), requires_grad=old.requires_grad)
    found.bias = layer.bias
    return found
