"""Give layers a weight of their own where several read one tensor: the function stays as it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import fx, nn

from qcompile.capture.copying import own_graph, replace_leaf, with_own_weight
from qcompile.capture.operands import weights_of
from qcompile.capture.storages import storages_of
from qcompile.compat.submodules import module_at
from qcompile.passes.base import PassResult


@dataclass(frozen=True)
class Untie:
    paths: frozenset[str]
    """Of parameters, each of which becomes a tensor of its own."""

    name: ClassVar[str] = "untie"

    def run(self, module: fx.GraphModule) -> PassResult:
        if not self.paths:
            return PassResult(module, changed=False)
        result = own_graph(module)
        for node in result.graph.nodes:
            path = weights_of(node, module).weight
            if path not in self.paths:
                continue
            own = _copy(module.get_parameter(path))
            if node.op == "call_module":
                leaf = str(node.target)
                replace_leaf(result, leaf, with_own_weight(module_at(module, leaf), own))
            else:
                replace_leaf(result, path, own)
        return PassResult(result, changed=True)


def tied_paths(module: fx.GraphModule) -> Mapping[str, tuple[str, ...]]:
    """By storage: the paths under which nodes read it as their weight, in graph order."""
    storages = storages_of(module)
    found: dict[str, dict[str, None]] = {}
    for node in module.graph.nodes:
        path = weights_of(node, module).weight
        if path is not None:
            found.setdefault(storages[path], {})[path] = None
    return {storage: tuple(paths) for storage, paths in found.items() if len(paths) > 1}


def _copy(shared: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(shared.detach().clone(), requires_grad=shared.requires_grad)
