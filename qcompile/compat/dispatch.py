"""Whether somebody watches the operations of torch, as tracers do: a private name."""

from torch._C import _len_torch_dispatch_stack  # pyright: ignore[reportPrivateUsage]


def is_watched() -> bool:
    return _len_torch_dispatch_stack() > 0
