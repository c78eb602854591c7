"""The tensors that a captured graph owns: what an artifact of it has to hold."""

from dataclasses import dataclass
from typing import cast

from torch import Tensor, fx, nn

from qcompile.compat.submodules import module_at


@dataclass(frozen=True, slots=True, eq=False)
class OwnedTensor:
    """A parameter or buffer that some node reads.

    ``storage`` is the path of the first tensor that shares its memory in full: itself, unless tied.
    """

    path: str
    tensor: Tensor
    storage: str
    node: str
    """The first node that needs it: a leaf's call, or the first reader of a ``get_attr``."""

    @property
    def nbytes(self) -> int:
        return self.tensor.numel() * self.tensor.element_size()


def is_kept(owner: nn.Module, name: str) -> bool:
    """Tell whether a buffer is part of the module's state, as its class has it."""
    return name in nn.Module.state_dict(owner, keep_vars=True)


def owned_tensors(module: fx.GraphModule) -> tuple[OwnedTensor, ...]:
    """In order of first use, each path once."""
    found: dict[str, OwnedTensor] = {}
    first_of: dict[tuple[object, ...], str] = {}
    for node in module.graph.nodes:
        for path, tensor in _tensors_of(module, node):
            if path in found:
                continue
            storage = first_of.setdefault(_memory(path, tensor), path)
            reader = node if node.op == "call_module" else next(iter(node.users), node)
            found[path] = OwnedTensor(path, tensor, storage, reader.name)
    return tuple(found.values())


def tensor_paths(module: fx.GraphModule) -> frozenset[str]:
    return frozenset(owned.path for owned in owned_tensors(module))


def _tensors_of(module: fx.GraphModule, node: fx.Node) -> list[tuple[str, Tensor]]:
    if node.op == "get_attr":
        owner, _, name = str(node.target).rpartition(".")
        return [(str(node.target), cast("Tensor", getattr(module_at(module, owner), name)))]
    if node.op != "call_module":
        return []
    leaf = module_at(module, str(node.target))
    tensors = [*leaf.named_parameters(), *leaf.named_buffers()]
    return [(f"{node.target}.{name}", tensor) for name, tensor in tensors]


def _memory(path: str, tensor: Tensor) -> tuple[object, ...]:
    """Equal for tensors that are the same memory seen in the same way."""
    if tensor.numel() == 0 or tensor.is_meta:
        return (path if not tensor.is_meta else id(tensor),)
    return (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
