"""Intercept calls of modules for the length of a ``with`` block."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Protocol

from torch import nn


class CallHandler(Protocol):
    """Stands in for ``nn.Module.__call__``; ``call`` is the original."""

    def __call__(
        self,
        call: Callable[..., object],
        module: nn.Module,
        args: tuple[object, ...],
        kwargs: dict[str, object],
    ) -> object: ...


@contextmanager
def intercepted_calls(handler: CallHandler) -> Generator[None]:
    """Send every module call through ``handler``; the class is restored even after an error."""
    original: Callable[..., object] = nn.Module.__call__

    def call(module: nn.Module, *args: object, **kwargs: object) -> object:
        return handler(original, module, args, kwargs)

    nn.Module.__call__ = call
    try:
        yield
    finally:
        nn.Module.__call__ = original


def has_hooks(module: nn.Module) -> bool:
    """Whether a call of ``module`` runs more than its ``forward``."""
    return bool(module._forward_hooks or module._forward_pre_hooks)  # pyright: ignore[reportPrivateUsage]
