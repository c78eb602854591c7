"""Run a model once and write down what it does, as a ``torch.fx`` graph with true module paths."""

import operator
import sys
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from numbers import Integral, Real
from types import EllipsisType
from typing import cast

import torch
from torch import fx, nn
from torch.fx.node import Argument
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from qcompile.capture.leaves import is_leaf
from qcompile.capture.node_meta import ModuleCall, NodeFacts, set_facts
from qcompile.capture.operations import function_name, is_in_place_call, operation
from qcompile.capture.user_frame import line_now
from qcompile.compat.composites import without_override_check
from qcompile.compat.symbolic_shapes import (
    Dimension,
    SymbolicNumber,
    SymbolicShapes,
    example_size,
    is_fake,
    is_symbolic,
)

COMPOSITES: tuple[Callable[..., object], ...] = (functional.multi_head_attention_forward,)
"""Functions that are entered, since they hide linear layers and matrix products."""

VALUE_READERS = frozenset(
    {"item", "__bool__", "__int__", "__float__", "__index__", "tolist", "numpy", "__array__"}
)
"""Tensor methods that turn values of the example into Python numbers."""

LITERALS = (
    str,
    bytes,
    complex,
    EllipsisType,
    torch.dtype,
    torch.device,
    torch.layout,
    torch.memory_format,
)


class UntraceableError(Exception):
    """The model does something that a graph cannot say; caught by ``trace``."""


@dataclass(frozen=True, slots=True)
class Specialisation:
    """Something of the example that was compiled in; other inputs may need it to hold."""

    path: str
    """Module that was running; empty for the root."""
    what: str
    where: str | None = None
    """``file:line``, where known."""
    why: str = ""
    """What went wrong with a more general capture, if that was tried."""


class Recorder(TorchFunctionMode):
    """Records torch functions and leaf modules while it is active.

    Tensors are known by identity, so every tensor that has a node is kept alive until the end:
    a recycled ``id`` would name the wrong node.
    """

    def __init__(self, model: nn.Module, sizes: SymbolicShapes | None) -> None:
        super().__init__()
        self.graph = fx.Graph()
        self.constants: dict[str, torch.Tensor] = {}
        self.specialisations: list[Specialisation] = []
        self._sizes = sizes
        self._modules = {id(child): path for path, child in model.named_modules()}
        self._containers = _containers(model)
        self._parameters = _tensor_paths(model)
        self._inputs: dict[str, fx.Node] = {}
        self._last_input: fx.Node | None = None
        self._hoisted: list[fx.Node] = []
        self._bound: dict[int, tuple[torch.Tensor, fx.Node]] = {}
        self._calls: dict[str, int] = {}
        self._stack: list[ModuleCall] = []
        self._silent = False

    # ---- the ends of the graph ------------------------------------------------------------------

    def placeholder(self, name: str, value: object) -> None:
        """An input; tensors inside a tuple, list or dict are read out by hoisted nodes."""
        node = self.graph.placeholder(name)
        self._last_input = node
        self._bind_input(node, name, value)

    def output(self, value: object) -> None:
        self.graph.output(self._output(value, "output"))
        anchor = self._last_input
        if anchor is None:
            return
        for node in self._hoisted:
            anchor.append(node)
            anchor = node

    # ---- what happens in between ----------------------------------------------------------------

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        given = kwargs or {}
        if self._silent:
            return func(*args, **given)
        if func in COMPOSITES:
            with self:
                return without_override_check(func)(*args, **given)
        if function_name(func) == "__iter__":
            with self:
                return iter(cast("torch.Tensor", args[0]).unbind(0))
        with self._silence():
            result = func(*args, **given)
        self._note_value_read(func, args)
        if self._must_record(func, args, given, result):
            self._record(func, args, given, result)
        return result

    def call_module(
        self,
        call: Callable[..., object],
        module: nn.Module,
        args: tuple[object, ...],
        kwargs: dict[str, object],
    ) -> object:
        """Record a leaf as one node; enter any other module."""
        path = self._modules.get(id(module))
        if self._silent or not path:
            return call(module, *args, **kwargs)
        count = self._calls.get(path, 0)
        self._calls[path] = count + 1
        if not is_leaf(module):
            name = type(module).__name__
            with self._inside(ModuleCall(path, name, count, self._containers.get(path))):
                return call(module, *args, **kwargs)
        node = self.graph.create_node(
            "call_module", path, self._arguments(args), self._keywords(kwargs)
        )
        with self._silence():
            result = call(module, *args, **kwargs)
        self._bind(node, result, call=count)
        return result

    def _must_record(
        self,
        function: Callable[..., object],
        args: tuple[object, ...],
        kwargs: Mapping[str, object],
        result: object,
    ) -> bool:
        """Sizes and other Python values are not recorded, nor are calls that return their input."""
        name = function_name(function)
        if name == "__set__":
            return False
        if is_in_place_call(function, kwargs):
            return True
        returned_input = isinstance(result, torch.Tensor) and any(arg is result for arg in args)
        return has_tensor(result) and not returned_input

    def _record(
        self,
        function: Callable[..., object],
        args: tuple[object, ...],
        kwargs: Mapping[str, object],
        result: object,
    ) -> None:
        written = operation(function, args, kwargs)
        node = self.graph.create_node(
            written.op,
            written.target,
            self._arguments(written.args),
            self._keywords(written.kwargs),
        )
        self._bind(node, result)

    def _note_value_read(self, function: Callable[..., object], args: tuple[object, ...]) -> None:
        name = function_name(function)
        if name not in VALUE_READERS or not args or id(args[0]) not in self._bound:
            return
        path = self._stack[-1].path if self._stack else ""
        what = f"the value of a tensor, read by `{name.strip('_')}`"
        line = line_now(sys._getframe())  # pyright: ignore[reportPrivateUsage]
        self.specialisations.append(Specialisation(path, what, line))

    # ---- values to nodes ------------------------------------------------------------------------

    def _bind_input(self, node: fx.Node, name: str, value: object) -> None:
        set_facts(node, self._facts(value, hoisted=node.op != "placeholder"))
        if isinstance(value, torch.Tensor):
            self._inputs[name] = node
            self._bound[id(value)] = (value, node)
        for key, item in nested_items(value):
            if has_tensor(item):
                part = self.graph.call_function(operator.getitem, (node, key))
                self._hoisted.append(part)
                self._bind_input(part, f"{name}.{key}", item)

    def _bind(self, node: fx.Node, value: object, *, call: int = 0) -> None:
        set_facts(node, self._facts(value, call=call))
        if isinstance(value, torch.Tensor):
            self._bound[id(value)] = (value, node)
        for key, item in nested_items(value):
            if has_tensor(item):
                self._bind(self.graph.call_function(operator.getitem, (node, key)), item)

    def _facts(self, value: object, *, call: int = 0, hoisted: bool = False) -> NodeFacts:
        stack = () if hoisted else tuple(self._stack)
        if not isinstance(value, torch.Tensor):
            return NodeFacts(stack=stack, call=call, hoisted=hoisted)
        return NodeFacts(
            stack=stack,
            shape=tuple(str(n) if is_symbolic(n) else int(n) for n in value.shape),
            example=tuple(example_size(n) for n in value.shape),
            dtype=str(value.dtype).removeprefix("torch."),
            call=call,
            hoisted=hoisted,
        )

    def _node(self, tensor: torch.Tensor) -> fx.Node:
        if id(tensor) in self._bound:
            return self._bound[id(tensor)][1]
        path = self._parameters.get(id(tensor))
        if path is None:
            if is_fake(tensor):
                raise UntraceableError("a tensor appeared that no torch function made")
            path = f"_constant_{len(self.constants)}"
            self.constants[path] = tensor
        node = self.graph.create_node("get_attr", path)
        self._bind(node, tensor)
        return node

    def _number(self, number: SymbolicNumber) -> fx.Node | int | float | bool:
        if self._sizes is None:
            raise UntraceableError("a symbolic size appeared in a run on real tensors")
        last = next(iter(reversed(self.graph.nodes)))
        lowered = self._sizes.lower(number, self._size_node)
        node = last.next
        while node.op != "root":
            set_facts(node, NodeFacts(hoisted=True))
            self._hoisted.append(node)
            node = node.next
        return lowered

    def _size_node(self, dimension: Dimension) -> fx.Node:
        return self.graph.call_method("size", (self._inputs[dimension.name], dimension.axis))

    def _arguments(self, args: tuple[object, ...]) -> tuple[Argument, ...]:
        return tuple(self._argument(arg) for arg in args)

    def _keywords(self, kwargs: Mapping[str, object]) -> dict[str, Argument]:
        return {name: self._argument(value) for name, value in kwargs.items()}

    def _argument(self, value: object) -> Argument:
        match value:
            case torch.Tensor():
                return self._node(value)
            case torch.SymInt() | torch.SymFloat() | torch.SymBool():
                return self._number(value)
            case tuple():
                return tuple(self._argument(item) for item in cast("tuple[object, ...]", value))
            case list():
                return [self._argument(item) for item in cast("list[object]", value)]
            case dict():
                return self._keywords(cast("dict[str, object]", value))
            case slice():
                bounds = cast("tuple[object, ...]", (value.start, value.stop, value.step))
                return slice(*(self._argument(bound) for bound in bounds))
            case _:
                return _literal(value)

    def _output(self, value: object, name: str) -> Argument:
        """Tensors in the containers they came in; a model output becomes a dict."""
        if isinstance(value, Mapping):
            entries = cast("Mapping[str, object]", value).items()
            return {
                key: self._output(item, f"{name}.{key}")
                for key, item in entries
                if item is not None
            }
        if isinstance(value, tuple | list):
            items = [
                self._output(item, f"{name}.{index}")
                for index, item in enumerate(cast("Sequence[object]", value))
            ]
            return items if isinstance(value, list) else tuple(items)
        try:
            return self._argument(value)
        except UntraceableError:
            what = f"calls that do without `{name}` of class `{type(value).__name__}`"
            self.specialisations.append(Specialisation("", what))
            return None

    # ---- where we are ---------------------------------------------------------------------------

    @contextmanager
    def _inside(self, call: ModuleCall) -> Generator[None]:
        self._stack.append(call)
        try:
            yield
        finally:
            self._stack.pop()

    @contextmanager
    def _silence(self) -> Generator[None]:
        self._silent = True
        try:
            yield
        finally:
            self._silent = False


def nested_items(value: object) -> Iterable[tuple[int | str, object]]:
    """The entries of a tuple, list or mapping by key; nothing for anything else."""
    if isinstance(value, Mapping):
        return cast("Mapping[str, object]", value).items()
    if isinstance(value, tuple | list):
        return enumerate(cast("Sequence[object]", value))
    return ()


def has_tensor(value: object) -> bool:
    if isinstance(value, torch.Tensor):
        return True
    return any(has_tensor(item) for _, item in nested_items(value))


def _literal(value: object) -> Argument:
    if value is None or isinstance(value, LITERALS):
        return cast("Argument", value)
    if isinstance(value, bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    raise UntraceableError(f"an argument of class `{type(value).__name__}` cannot be stored")


def _containers(model: nn.Module) -> dict[str, str]:
    """Path of each child of a ``ModuleList`` or ``Sequential``, to the path of its container."""
    return {
        f"{path}.{name}" if path else name: path
        for path, container in model.named_modules()
        if isinstance(container, nn.ModuleList | nn.Sequential)
        for name, _ in container.named_children()
    }


def _tensor_paths(model: nn.Module) -> dict[int, str]:
    """Identity of each parameter and buffer to its path, the first one where tensors are tied."""
    paths: dict[int, str] = {}
    for path, tensor in chain(
        model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False)
    ):
        paths.setdefault(id(tensor), path)
    return paths
