"""How a torch call is written as a node, and what a node is called afterwards."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import cast

import torch
from torch import fx, nn
from torch.overrides import resolve_name

from qcompile.capture.leaves import class_name
from qcompile.compat.fake_kernels import RECORDED
from qcompile.compat.submodules import module_at

BINARY: Mapping[str, Callable[..., object]] = MappingProxyType(
    {
        name: cast("Callable[..., object]", getattr(operator, name))
        for name in (
            "add",
            "sub",
            "mul",
            "truediv",
            "floordiv",
            "mod",
            "pow",
            "matmul",
            "and_",
            "or_",
            "xor",
            "lshift",
            "rshift",
        )
    }
)
"""Operators that also have a reflected (``__radd__``) and an in-place (``__iadd__``) form."""

OTHER_OPERATORS: tuple[str, ...] = (
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "neg",
    "pos",
    "abs",
    "invert",
    "getitem",
    "setitem",
)

_Dunders = Mapping[str, Callable[..., object]]
_FORWARD: _Dunders = MappingProxyType(
    {f"__{name.rstrip('_')}__": function for name, function in BINARY.items()}
    | {f"__{name}__": getattr(operator, name) for name in OTHER_OPERATORS}
)
_REFLECTED: _Dunders = MappingProxyType(
    {f"__r{name.rstrip('_')}__": function for name, function in BINARY.items()}
)
_IN_PLACE: _Dunders = MappingProxyType(
    {f"__i{name.rstrip('_')}__": getattr(operator, f"i{name.rstrip('_')}") for name in BINARY}
)
_IN_PLACE_TARGETS: frozenset[object] = frozenset({*_IN_PLACE.values(), operator.setitem})


@dataclass(frozen=True, slots=True)
class Operation:
    """A call as ``fx.Graph.create_node`` wants it; arguments are still tensors."""

    op: str
    target: Callable[..., object] | str
    args: tuple[object, ...]
    kwargs: Mapping[str, object]


def operation(
    function: Callable[..., object], args: tuple[object, ...], kwargs: Mapping[str, object]
) -> Operation:
    """The call ``function(*args, **kwargs)``, seen by a function mode, in the form for a graph."""
    name = function_name(function)
    if name == "__get__":
        return Operation("call_function", getattr, (args[0], property_name(function)), {})
    if name in _REFLECTED:
        return Operation("call_function", _REFLECTED[name], (args[1], args[0]), {})
    if name in _FORWARD or name in _IN_PLACE:
        target = _FORWARD.get(name) or _IN_PLACE[name]
        return Operation("call_function", target, args, kwargs)
    if getattr(torch.Tensor, name, None) is function:
        return Operation("call_method", name, args, kwargs)
    target = function if "memory_format" in kwargs else RECORDED.get(function, function)
    return Operation("call_function", target, args, kwargs)


def function_name(function: Callable[..., object]) -> str:
    return cast("str", getattr(function, "__name__", ""))


def property_name(function: Callable[..., object]) -> str:
    """Of the getter or setter of a tensor's attribute."""
    return cast("str", getattr(getattr(function, "__self__", None), "__name__", ""))


def is_in_place_call(function: Callable[..., object], kwargs: Mapping[str, object]) -> bool:
    """Whether the call writes to a tensor that it was given."""
    return function in _IN_PLACE_TARGETS or _writes(function_name(function), kwargs)


def _writes(name: str, kwargs: Mapping[str, object]) -> bool:
    return (
        (name.endswith("_") and not name.endswith("__"))
        or name in _IN_PLACE
        or name == "__setitem__"
        or kwargs.get("inplace") is True
        or kwargs.get("out") is not None
    )


def bare_name(node: fx.Node) -> str:
    """``add`` for ``operator.add``, ``operator.iadd``, ``torch.add`` and ``Tensor.add_`` alike."""
    name = str(node.target)
    if callable(node.target):
        name = function_name(node.target)
        if node.target in _IN_PLACE_TARGETS and name != "setitem":
            return name[1:]
    return name.strip("_")


def mutates(node: fx.Node, module: nn.Module) -> bool:
    """Whether running ``node`` writes to one of its inputs."""
    match node.op:
        case "call_function":
            return is_in_place_call(cast("Callable[..., object]", node.target), node.kwargs)
        case "call_method":
            return _writes(str(node.target), node.kwargs)
        case "call_module":
            return getattr(module_at(module, str(node.target)), "inplace", False) is True
        case _:
            return False


def written_name(node: fx.Node, module: nn.Module) -> str:
    """``torch.nn.Conv2d``, ``torch.nn.functional.linear``, ``operator.add``, ``Tensor.matmul``."""
    match node.op:
        case "call_module":
            return class_name(type(module_at(module, str(node.target))))
        case "call_method":
            return f"Tensor.{node.target}"
        case _:
            function = cast("Callable[..., object]", node.target)
            known = resolve_name(function)
            if known is not None:
                return known
            home = (getattr(function, "__module__", None) or "torch").removeprefix("_")
            return f"{home}.{function_name(function)}"


def eliminate_dead_code(module: fx.GraphModule) -> bool:
    """Drop nodes whose value nobody reads; inputs and writes in place stay."""

    def is_needed(node: fx.Node) -> bool:
        return node.op in {"placeholder", "output"} or mutates(node, module)

    return module.graph.eliminate_dead_code(is_needed)
