"""Example inputs for a capture: only their types and shapes matter on the usual path."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from inspect import signature

import torch
from torch import Tensor, nn

from qcompile.policy.recipe import Input

BATCH = 2
"""More than one: a batch of one would be taken for a size that is always one."""
OTHER = 16
"""Size of a free axis that is not the first."""


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    args: tuple[Tensor, ...]
    kwargs: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    dynamic: Mapping[str, tuple[int, ...]] | None = None
    """Free axes by input name; ``None``: the capture's own defaults."""

    def named(self, model: nn.Module) -> list[tuple[str, Tensor]]:
        """Every input with the name that the model's ``forward`` gives it."""
        positional = list(signature(model.forward).parameters)
        return [*zip(positional, self.args, strict=False), *self.kwargs.items()]


def declared(inputs: Sequence[Input], model: nn.Module) -> Example:
    """From ``input = float32[batch, 3, 32, 32]`` lines: named sizes are free, numbers fixed."""
    sizes: dict[str, int] = {}
    for item in inputs:
        for axis, size in enumerate(item.shape):
            if isinstance(size, str):
                sizes.setdefault(size, BATCH if axis == 0 else OTHER)
    names = list(signature(model.forward).parameters)
    args: list[Tensor] = []
    kwargs: dict[str, Tensor] = {}
    dynamic: dict[str, tuple[int, ...]] = {}
    for item in inputs:
        tensor = _tensor(item, sizes)
        if item.name is None:
            name = names[len(args)] if len(args) < len(names) else f"input_{len(args)}"
            args.append(tensor)
        else:
            name = item.name
            kwargs[name] = tensor
        dynamic[name] = tuple(a for a, size in enumerate(item.shape) if isinstance(size, str)) or (
            0,
        )
    return Example(tuple(args), kwargs, dynamic)


def _tensor(item: Input, sizes: Mapping[str, int]) -> Tensor:
    shape = [sizes[size] if isinstance(size, str) else size for size in item.shape]
    if len(shape) > 0 and not isinstance(item.shape[0], str):
        shape[0] = max(shape[0], BATCH)  # a written batch size is an example, not a promise
    dtype: torch.dtype = getattr(torch, item.dtype)
    if dtype.is_floating_point:
        return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    return torch.ones(shape, dtype=dtype)
