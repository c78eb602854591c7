"""Activations that oneDNN applies while it writes the result of a product."""

from dataclasses import dataclass

from torch import fx, nn
from torch.fx.node import Argument

from qcompile.capture.operations import bare_name

LINEAR_ONLY = frozenset({"gelu", "tanh"})


@dataclass(frozen=True, slots=True)
class Unary:
    """A post-operation by oneDNN's name."""

    name: str
    arguments: tuple[float, ...] = ()
    algorithm: str = ""


PLAIN = {"relu": "relu", "relu_": "relu", "hardswish": "hardswish", "silu": "swish", "tanh": "tanh"}
MODULES: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.Hardswish: "hardswish",
    nn.SiLU: "swish",
    nn.Tanh: "tanh",
}
GELU = ("none", "tanh")


def unary_of(module: fx.GraphModule, node: fx.Node, is_conv: bool) -> Unary | None:
    """Give the post-operation that ``node`` is of its first argument, if it is one."""
    found = _of_module(module, node) if node.op == "call_module" else _of_call(node)
    return None if found is not None and is_conv and found.name in LINEAR_ONLY else found


def _of_module(module: fx.GraphModule, node: fx.Node) -> Unary | None:
    leaf = module.get_submodule(str(node.target))
    match leaf:
        case nn.Hardtanh():  # and ReLU6, which is one
            return Unary("hardtanh", (float(leaf.min_val), float(leaf.max_val)))
        case nn.GELU():
            return _gelu(leaf.approximate)
        case _:
            name = MODULES.get(type(leaf))
            return None if name is None else Unary(name)


def _of_call(node: fx.Node) -> Unary | None:
    name = bare_name(node)
    given = {key: value for key, value in node.kwargs.items() if key != "inplace"}
    rest = node.args[1:]
    if name in PLAIN and not given and not any(isinstance(arg, fx.Node) for arg in rest):
        return Unary(PLAIN[name])
    match name:
        case "relu6" if not given:
            return Unary("hardtanh", (0.0, 6.0))
        case "hardtanh" | "hardtanh_" | "clamp" | "clip" | "clamp_":
            return _clamp(name, rest, given)
        case "gelu" if not rest:
            return _gelu(str(given.get("approximate", "none")))
        case _:
            return None


def _clamp(name: str, rest: tuple[Argument, ...], given: dict[str, Argument]) -> Unary | None:
    """Only between two numbers."""
    lowest, highest = ("min_val", "max_val") if "tanh" in name else ("min", "max")
    default = (-1.0, 1.0) if "tanh" in name else (None, None)
    low = rest[0] if rest else given.get(lowest, default[0])
    high = rest[1] if len(rest) > 1 else given.get(highest, default[1])
    if isinstance(low, int | float) and isinstance(high, int | float):
        return Unary("hardtanh", (float(low), float(high)))
    return None


def _gelu(approximate: str) -> Unary | None:
    return Unary("gelu", (), approximate) if approximate in GELU else None
