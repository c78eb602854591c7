"""Where in a model its modules and tensors are."""

from itertools import chain

import torch
from torch import nn

from qcompile.capture.nesting import nested_items


def plain_tensors(model: nn.Module) -> frozenset[int]:
    """Identity of the tensors that modules hold as plain attributes, or in a list or dict."""
    held = [value for module in model.modules() for value in vars(module).values()]
    items = [item for value in held for _, item in nested_items(value)]
    return frozenset(id(one) for one in (*held, *items) if isinstance(one, torch.Tensor))


def containers(model: nn.Module) -> dict[str, str]:
    """Path of each child of a ``ModuleList`` or ``Sequential``, to the path of its container."""
    return {
        f"{path}.{name}" if path else name: path
        for path, container in model.named_modules()
        if isinstance(container, nn.ModuleList | nn.Sequential)
        for name, _ in container.named_children()
    }


def tensor_paths(model: nn.Module) -> dict[int, str]:
    """Identity of each parameter and buffer to its path, the first one where tensors are tied."""
    paths: dict[int, str] = {}
    for path, tensor in chain(
        model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False)
    ):
        paths.setdefault(id(tensor), path)
    return paths
