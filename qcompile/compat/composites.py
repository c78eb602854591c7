"""Step into ``torch.nn.functional`` composites that hide their operations from a function mode."""

from collections.abc import Callable
from types import FunctionType
from typing import cast

OVERRIDE_CHECKS: tuple[str, ...] = (
    "has_torch_function",
    "has_torch_function_unary",
    "has_torch_function_variadic",
)


def without_override_check(function: Callable[..., object]) -> Callable[..., object]:
    """``function`` with the same code, which never hands itself over to a function mode.

    What it calls is still handed over. Torch is left as it was: the copy has its own globals.
    """
    original = cast("FunctionType", function)
    names = {**original.__globals__, **dict.fromkeys(OVERRIDE_CHECKS, _never)}
    copy = FunctionType(
        original.__code__, names, original.__name__, original.__defaults__, original.__closure__
    )
    copy.__kwdefaults__ = original.__kwdefaults__
    return copy


def _never(*_: object) -> bool:
    return False
