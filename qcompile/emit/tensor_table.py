"""The tensors of a graph as records, each under its name, tied ones known as such."""

from dataclasses import dataclass

from torch import Tensor, fx, nn

from qcompile.capture.tensors import is_kept, owned_tensors
from qcompile.compat.submodules import module_at
from qcompile.emit.allowed import dtype_name
from qcompile.emit.graph_document import TensorRecord


@dataclass(frozen=True, slots=True, eq=False)
class NamedTensor:
    record: TensorRecord
    tensor: Tensor


def tensor_table(module: fx.GraphModule) -> tuple[NamedTensor, ...]:
    """Parameters and buffers of called leaves and of ``get_attr`` nodes, sorted by name."""
    owned = sorted(owned_tensors(module), key=lambda item: item.path)
    return tuple(
        NamedTensor(_record(module, item.path, item.tensor, item.storage), item.tensor)
        for item in owned
    )


def called_leaves(module: fx.GraphModule) -> dict[str, nn.Module]:
    """Path to module, of every module that a node calls."""
    paths = [str(node.target) for node in module.graph.nodes if node.op == "call_module"]
    return {path: module_at(module, path) for path in paths}


def own_tensors(leaf: nn.Module) -> dict[str, Tensor]:
    parameters: dict[str, Tensor] = dict(leaf.named_parameters(recurse=False))
    return parameters | dict(leaf.named_buffers(recurse=False))


def _record(module: nn.Module, path: str, tensor: Tensor, storage: str) -> TensorRecord:
    owner, _, name = path.rpartition(".")
    is_parameter = isinstance(tensor, nn.Parameter)
    return TensorRecord(
        name=path,
        kind="parameter" if is_parameter else "buffer",
        dtype=dtype_name(tensor.dtype),
        shape=tuple(tensor.shape),
        persistent=is_parameter or is_kept(module_at(module, owner), name),
        alias=None if storage == path else storage,
    )
