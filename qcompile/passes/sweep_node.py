"""Evaluate one node of a graph for one batch after another."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import cast

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.fx.node import Argument, map_arg

from qcompile.passes.sweep_values import Value
from qcompile.passes.wide_attention import is_widened, widened

Lookup = Callable[[int, fx.Node], Value]
"""Value of the ``i``-th occurrence of a node among the arguments."""


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """A node with its parameters on the device; ``weights`` stand in for parameters by path.

    Calls the node's own target, so that a result is bit-identical to the eager model's.
    """

    node: fx.Node
    attributes: Mapping[str, Value]
    """Of the ``get_attr`` arguments, by node name."""
    leaf: nn.Module | None
    leaf_state: Mapping[str, Tensor]

    def __call__(self, lookup: Lookup) -> Value:
        found = iter(
            [
                self.attributes[used.name] if used.op == "get_attr" else lookup(i, used)
                for i, used in enumerate(occurrences(self.node))
            ]
        )

        def take(_: fx.Node) -> Argument:
            return cast("Argument", next(found))

        arguments = (self.node.args, self.node.kwargs)
        args, kwargs = cast(
            "tuple[tuple[Value, ...], dict[str, Value]]",
            map_arg(arguments, take),
        )
        target = self.node.target
        if self.leaf is not None:
            state = dict(self.leaf_state)
            return cast("Value", functional_call(self.leaf, state, tuple(args), dict(kwargs)))
        if isinstance(target, str):
            method = cast("Callable[..., Value]", getattr(args[0], target))
            return method(*args[1:], **kwargs)
        call = cast("Callable[..., Value]", target)
        if is_widened(self.node, args):
            return widened(call, args, kwargs)
        return call(*args, **kwargs)


def operation(
    module: fx.GraphModule, node: fx.Node, device: torch.device, weights: Mapping[str, Tensor]
) -> Operation:
    """The operation of ``node``, with ``weights`` (by parameter path) in place of the model's.

    The model's own are constants: a gradient is passed on, and none is kept for them.
    """
    attributes: dict[str, Value] = {}
    for used in occurrences(node):
        if used.op == "get_attr":
            path = str(used.target)
            attributes[used.name] = weights.get(path, _on(device, attribute(module, path)))
    leaf = module.get_submodule(str(node.target)) if node.op == "call_module" else None
    state = {} if leaf is None else {name: t.detach().to(device) for name, t in _state(leaf)}
    for path, tensor in weights.items():
        if leaf is not None:
            state[name_in_leaf(module, leaf, path)] = tensor
        elif not any(str(used.target) == path for used in occurrences(node)):
            raise ValueError(f"`{path}` is no argument of node `{node.name}`")
    return Operation(node, attributes, leaf, state)


def occurrences(node: fx.Node) -> list[fx.Node]:
    """Every node among the arguments, as often and in the order in which it stands there."""
    found: list[fx.Node] = []

    def note(used: fx.Node) -> fx.Node:
        found.append(used)
        return used

    map_arg((node.args, node.kwargs), note)
    return found


def attribute(module: nn.Module, path: str) -> Value:
    return cast("Value", attrgetter(path)(module))


def name_in_leaf(module: nn.Module, leaf: nn.Module, path: str) -> str:
    """The leaf's own name for the model's parameter ``path``; the leaf may be shared."""
    parameter = attribute(module, path)
    for name, own in leaf.named_parameters(remove_duplicate=False):
        if own is parameter:
            return name
    raise ValueError(f"`{path}` is no parameter of the module it was planned for")


def _state(leaf: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from leaf.named_parameters(remove_duplicate=False)
    yield from leaf.named_buffers(remove_duplicate=False)


def _on(device: torch.device, value: Value) -> Value:
    return value.detach().to(device) if isinstance(value, Tensor) else value
