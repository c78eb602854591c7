"""Run a model once and write down what it does, as a ``torch.fx`` graph with true module paths."""

import operator
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import count
from numbers import Integral, Real
from types import EllipsisType
from typing import cast

import torch
from torch import fx, nn
from torch.fx.node import Argument
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from qcompile.capture.leaves import is_leaf
from qcompile.capture.model_paths import containers, plain_tensors, tensor_paths
from qcompile.capture.nesting import has_tensor, nested_items
from qcompile.capture.node_meta import ModuleCall, NodeFacts, call_name, set_facts
from qcompile.capture.operations import (
    function_name,
    is_in_place_call,
    operation,
    property_name,
)
from qcompile.capture.specialisation import Specialisation
from qcompile.capture.trail import Trail
from qcompile.capture.value_reads import EXITS, VALUE_READERS, ValueRead, ValueReads
from qcompile.compat.composites import without_override_check
from qcompile.compat.fake_kernels import STAND_INS
from qcompile.compat.function_transforms import is_of_function_transform
from qcompile.compat.size_decisions import SizeDecision
from qcompile.compat.symbolic_shapes import (
    Dimension,
    SymbolicNumber,
    SymbolicShapes,
    example_size,
    is_fake,
    is_symbolic,
    with_values,
)

COMPOSITES: tuple[Callable[..., object], ...] = (functional.multi_head_attention_forward,)
"""Functions that are entered, since they hide linear layers and matrix products."""

HARMLESS_ASSIGNMENTS = frozenset({"requires_grad", "grad", "retains_grad"})
"""Attributes of tensors that have no part in what a model computes without gradients."""

AUTOCAST_DEVICES = ("cpu", "cuda")

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


class Recorder(TorchFunctionMode):
    """Records torch functions and leaf modules while it is active.

    Tensors are known by identity, so every tensor that has a node is kept alive until the end:
    a recycled ``id`` would name the wrong node.
    """

    def __init__(
        self, model: nn.Module, sizes: SymbolicShapes | None, answers: Sequence[ValueRead] = ()
    ) -> None:
        """Without ``sizes`` the tensors have values; else ``answers`` are those of such a run."""
        super().__init__()
        self.graph = fx.Graph()
        self.constants: dict[str, torch.Tensor] = {}
        self.trail = Trail()
        self.conditions: list[SizeDecision] = []
        """What the model took for granted of sizes above one."""
        self.reads = ValueReads(has_values=sizes is None, answers=answers)
        self._sizes = sizes
        self._modules = {id(child): path for path, child in model.named_modules()}
        self._containers = containers(model)
        self._parameters = tensor_paths(model)
        self._paths = frozenset((*self._modules.values(), *self._parameters.values()))
        self._attributes = plain_tensors(model)
        self._inputs: dict[str, fx.Node] = {}
        self._last_input: fx.Node | None = None
        self._hoisted: list[fx.Node] = []
        self._bound: dict[int, tuple[torch.Tensor, fx.Node]] = {}
        self._from_inputs: set[fx.Node] = set()
        """Nodes whose values other inputs may change."""
        self._calls: dict[str, int] = {}
        self._silent = False

    # ---- the ends of the graph ------------------------------------------------------------------

    def placeholder(self, name: str, value: object) -> None:
        """An input; tensors inside a tuple, list or dict are read out by hoisted nodes."""
        node = self.graph.placeholder(name)
        self._last_input = node
        self._bind_input(node, name, value)

    def compiled_in(self, name: str, value: object) -> None:
        """An argument without tensors, as far as one can see: an object may hold some."""
        try:
            self._argument(value)
        except UntraceableError:
            what = f"the `{name}` of class `{type(value).__name__}` that was given"
            self.trail.specialisations.append(Specialisation("", what))

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
        if function_name(func) == "__set__":
            return self._assign(func, args)
        if function_name(func) in VALUE_READERS or function_name(func) in EXITS:
            return self._read(func, args, given)
        run = func if self._sizes is None else STAND_INS.get(func, func)
        with self._silence():
            result = run(*args, **given)
        if self._must_record(func, args, given, result):
            self._record(func, args, given, result)
        return result

    def _assign(self, function: Callable[..., object], args: tuple[object, ...]) -> object:
        """Set an attribute of a tensor, which no graph can say; harmless ones are left out."""
        name = property_name(function)
        if name not in HARMLESS_ASSIGNMENTS:
            raise UntraceableError(f"the model assigns to `{name}` of a tensor")
        with self._silence():
            return function(*args)

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
        number = self._count(path)
        with self.trail.blaming(path):
            if is_leaf(module):
                return self._leaf(path, number, call, module, args, kwargs)
            name = type(module).__name__
            with self.trail.inside(ModuleCall(path, name, number, self._containers.get(path))):
                return call(module, *args, **kwargs)

    def _count(self, path: str) -> int:
        """The number of this call; none whose name ``path@1`` is a module of the model."""
        number = self._calls.get(path, 0)
        while number and call_name(path, number) in self._paths:
            number += 1
        self._calls[path] = number + 1
        return number

    def _leaf(
        self,
        path: str,
        number: int,
        call: Callable[..., object],
        module: nn.Module,
        args: tuple[object, ...],
        kwargs: dict[str, object],
    ) -> object:
        given = (self._arguments(args), self._keywords(kwargs))
        node = self.graph.create_node("call_module", path, *given)
        with self._silence():
            result = call(module, *args, **kwargs)
        self._bind(node, result, call=number)
        return result

    def _must_record(
        self,
        function: Callable[..., object],
        args: tuple[object, ...],
        kwargs: Mapping[str, object],
        result: object,
    ) -> bool:
        """Sizes and other Python values are not recorded, nor are calls that return their input."""
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
        if is_in_place_call(function, kwargs) and node in self._from_inputs:
            self._from_inputs.add(node.all_input_nodes[0])

    # ---- what is compiled in --------------------------------------------------------------------

    def decided(self, decision: SizeDecision) -> None:
        """Python code went one way because of a size.

        What torch asks for its own ends does not count, unless a size is not free any more.
        """
        if self._silent and not decision.fixes_a_size:
            return
        if not decision.is_settled_from(1):
            above_one = decision.is_settled_from(2)
            self.trail.specialise(f"`{decision.text}`", above_one=above_one)
            self.conditions += [] if above_one else [decision]

    def _read(
        self,
        function: Callable[..., object],
        args: tuple[object, ...],
        kwargs: Mapping[str, object],
    ) -> object:
        """Let the model take a value out of a tensor; what the inputs have no part in is safe."""
        name = function_name(function)
        is_of_example = any(self._depends_on_input(arg) for arg in args)
        if is_of_example and name in EXITS:
            raise UntraceableError(f"values leave torch by `{name.strip('_')}`, unseen")
        are_fake = any(is_fake(arg) for arg in args if isinstance(arg, torch.Tensor))
        with self._silence(), nullcontext() if are_fake else with_values():
            read = self.reads.ask(name, lambda: function(*args, **kwargs))
        if is_of_example:
            self.trail.specialise(f"the value of a tensor, read by `{name.strip('_')}`")
        return read.value

    def _note_constant(self, tensor: torch.Tensor) -> None:
        """A run on values cannot tell what was there before from what the inputs went into."""
        if isinstance(tensor, nn.Parameter):
            self.trail.specialise(
                f"a parameter {list(tensor.shape)} that no module of the model holds"
            )
        elif self._sizes is None and id(tensor) not in self._attributes:
            self.trail.specialise(f"a tensor {list(tensor.shape)} that no torch function made")

    def _depends_on_input(self, value: object) -> bool:
        known = self._bound.get(id(value))
        return known is not None and known[1] in self._from_inputs

    # ---- values to nodes ------------------------------------------------------------------------

    def _bind_input(self, node: fx.Node, name: str, value: object) -> None:
        self._from_inputs.add(node)
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
        if not self._from_inputs.isdisjoint(node.all_input_nodes):
            self._from_inputs.add(node)
        if any(torch.is_autocast_enabled(device) for device in AUTOCAST_DEVICES):
            self.trail.specialise("computing without `torch.autocast`")
        set_facts(node, self._facts(value, call=call))
        if isinstance(value, torch.Tensor):
            self._bound[id(value)] = (value, node)
        for key, item in nested_items(value):
            if has_tensor(item):
                self._bind(self.graph.call_function(operator.getitem, (node, key)), item)

    def _facts(self, value: object, *, call: int = 0, hoisted: bool = False) -> NodeFacts:
        stack = () if hoisted else tuple(self.trail.stack)
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
            if is_of_function_transform(tensor):
                raise UntraceableError("`torch.vmap`, or a transform like it, hides what it does")
            if is_fake(tensor):
                raise UntraceableError("a tensor appeared that no torch function made")
            names = (f"_constant_{n}" for n in count(len(self.constants)))
            taken = self._paths | self.constants.keys()
            path = next(name for name in names if name not in taken)
            self.constants[path] = tensor
            self._note_constant(tensor)
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
            self._from_inputs.add(node)
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
        if isinstance(value, torch.Tensor):
            return self._node(value)
        try:
            return self._argument(value)
        except UntraceableError:
            what = f"calls that do without `{name}` of class `{type(value).__name__}`"
            self.trail.specialisations.append(Specialisation("", what))
            return None

    @contextmanager
    def _silence(self) -> Generator[None]:
        self._silent = True
        try:
            yield
        finally:
            self._silent = False


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
