"""Which parameters are the same tensor under several names."""

import torch
from torch import fx, nn

from qcompile.compat.submodules import module_at


def storages_of(module: fx.GraphModule) -> dict[str, str]:
    """Path of every parameter to the path of the first one, in graph order, of the same tensor."""
    named = dict(module.named_parameters(remove_duplicate=False))
    used = [path for node in module.graph.nodes for path in _used(node, module)]
    first: dict[object, str] = {}
    return {
        path: first.setdefault(_identity(named[path]), path)
        for path in dict.fromkeys([*used, *named])
    }


def _used(node: fx.Node, module: fx.GraphModule) -> list[str]:
    path = str(node.target)
    if node.op == "call_module":
        leaf = module_at(module, path)
        return [f"{path}.{name}" for name, _ in leaf.named_parameters(recurse=False)]
    owner, _, name = path.rpartition(".")
    is_parameter = node.op == "get_attr" and isinstance(
        getattr(module_at(module, owner), name), nn.Parameter
    )
    return [path] if is_parameter else []


def _identity(tensor: torch.Tensor) -> object:
    """Equal for two parameters that are the same memory; a meta tensor has none to compare."""
    if tensor.device.type == "meta" or tensor.numel() == 0:
        return id(tensor)
    place = (tensor.untyped_storage().data_ptr(), tensor.storage_offset())
    return (*place, tuple(tensor.shape), tensor.stride())
