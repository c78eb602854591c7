"""A quantized graph as an ONNX model: every node by its row, or a list of what has none."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import signature
from operator import attrgetter
from typing import cast

from torch import Tensor, fx

from qcompile.capture.memory import overwritten
from qcompile.capture.node_meta import facts
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.interop.onnx_file import OnnxModel, OnnxNode, OnnxValue
from qcompile.interop.onnx_graph import ELEMENT_TYPES, OnnxGraph, UnsupportedCallError, Value
from qcompile.interop.onnx_rows import QUANTIZERS, ROWS, operation, row_of, settings
from qcompile.interop.refusals import no_operation
from qcompile.interop.result_leaves import leaves

CALLS = ("call_function", "call_method", "call_module")


def check_operations(module: fx.GraphModule) -> list[Diagnostic]:
    """QR551 for each operation without a row, at its first node; nothing is emitted."""
    found: dict[str, fx.Node] = {}
    for node in module.graph.nodes:
        if node.op in CALLS and row_of(node, module) is None:
            found.setdefault(operation(node, module), node)
    problems = [no_operation(f"`{name}`", node.name) for name, node in found.items()]
    return [*problems, *_read_when_overwritten(module)]


def emit(
    module: fx.GraphModule, name: str, producer: tuple[str, str], metadata: Mapping[str, str]
) -> OnnxModel | list[Diagnostic]:
    """``module`` is the reference, as ``emit.materialize`` builds it."""
    problems = check_operations(module)
    if problems:
        return problems
    emission = _Emission(module)
    for node in module.graph.nodes:
        try:
            emission.take(node)
        except UnsupportedCallError as error:
            return [no_operation(str(error), node.name)]
    g = emission.g
    tool, version = producer
    return OnnxModel(
        name=name,
        nodes=tuple(g.nodes),
        initializers=tuple(g.initializers.values()),
        inputs=tuple(emission.inputs),
        outputs=tuple(emission.outputs),
        producer=tool,
        producer_version=version,
        metadata=tuple(sorted(metadata.items())),
    )


@dataclass(slots=True)
class _Emission:
    module: fx.GraphModule
    g: OnnxGraph = field(default_factory=OnnxGraph)
    values: dict[fx.Node, object] = field(default_factory=dict[fx.Node, object])
    """A ``Value``, a stored tensor, a number, or a tuple or list of those."""
    constants: dict[int, Value] = field(default_factory=dict[int, Value])
    inputs: list[OnnxValue] = field(default_factory=list[OnnxValue])
    outputs: list[OnnxValue] = field(default_factory=list[OnnxValue])

    def take(self, node: fx.Node) -> None:
        self.g.scope = node.name
        match node.op:
            case "placeholder":
                self.values[node] = self._input(node)
            case "get_attr":
                self.values[node] = attrgetter(str(node.target))(self.module)
            case "output":
                self._output(self.values_of(node.args[0]))
            case _:
                self.values[node] = self._known(node, self._call(node))

    def values_of(self, argument: object) -> object:
        """The argument with values in the place of nodes; containers become plain ones."""
        match argument:
            case fx.Node():
                return self.values[argument]
            case tuple():
                return tuple(self.values_of(item) for item in cast("tuple[object]", argument))
            case list():
                return [self.values_of(item) for item in cast("list[object]", argument)]
            case dict():
                given = cast("dict[str, object]", argument)
                return {key: self.values_of(item) for key, item in given.items()}
            case slice():
                bounds = (argument.start, argument.stop, argument.step)
                return slice(*(self.values_of(bound) for bound in bounds))
            case _:
                return argument

    def _call(self, node: fx.Node) -> object:
        name = operation(node, self.module)
        arguments = cast("list[object]", self.values_of(list(node.args)))
        keywords = cast("dict[str, object]", self.values_of(dict(node.kwargs)))
        if name in QUANTIZERS:
            return QUANTIZERS[name](self.g, *arguments, **keywords)
        if node.op == "call_module":
            keywords |= settings(self.module.get_submodule(str(node.target)))
        elif _are_numbers(arguments) and not keywords and callable(node.target):
            return node.target(*arguments)
        arguments = [self._as_value(item) for item in arguments]
        keywords = {key: self._as_value(item) for key, item in keywords.items()}
        try:
            signature(ROWS[name]).bind(self.g, *arguments, **keywords)
        except TypeError as error:
            raise UnsupportedCallError(f"these arguments of `{name}`: {error}") from None
        return ROWS[name](self.g, *arguments, **keywords)

    def _as_value(self, item: object) -> object:
        """A stored tensor as an initializer, once; anything else as it is."""
        if isinstance(item, list):
            return [self._as_value(inner) for inner in cast("list[object]", item)]
        if not isinstance(item, Tensor):
            return item
        if id(item) not in self.constants:
            self.constants[id(item)] = self.g.constant(item, self._path(item))
        return self.constants[id(item)]

    def _path(self, tensor: Tensor) -> str:
        named: Iterator[tuple[str, Tensor]] = iter(
            (*self.module.named_parameters(), *self.module.named_buffers())
        )
        return next((name for name, item in named if item is tensor), "constant")

    def _known(self, node: fx.Node, made: object) -> object:
        """Give a bare name the dtype and shape that the capture saw for the node."""
        if not isinstance(made, str):
            return made
        known = facts(node)
        if known.shape is not None and known.dtype is not None:
            return Value(made, known.dtype, known.shape)
        first = next((self.values[used] for used in node.all_input_nodes), None)
        if isinstance(first, Value):
            return Value(made, first.dtype, first.shape)
        raise UnsupportedCallError("a value of unknown shape")

    def _input(self, node: fx.Node) -> Value:
        known = facts(node)
        if known.shape is None or known.dtype is None or known.dtype not in ELEMENT_TYPES:
            raise UnsupportedCallError("an input that is not a tensor")
        name = self.g.unique(node.name)
        self.inputs.append(OnnxValue(name, ELEMENT_TYPES[known.dtype], known.shape))
        return Value(name, known.dtype, known.shape)

    def _output(self, result: object) -> None:
        for path, item in leaves(result):
            value = self._as_value(item)
            if not isinstance(value, Value):
                raise UnsupportedCallError("an output that is not a tensor")
            name = self.g.unique(path or "output")
            self.g.nodes.append(_identity(value.name, name))
            self.outputs.append(OnnxValue(name, ELEMENT_TYPES[value.dtype], value.shape))


def _read_when_overwritten(module: fx.GraphModule) -> Iterator[Diagnostic]:
    """Values that an operation writes to and that are read again: ONNX writes to nothing."""
    for node in module.graph.nodes:
        if any(user > node for item in overwritten(module, node) for user in item.users):
            yield no_operation("a value that is read again after it was written to", node.name)


def _identity(source: str, name: str) -> OnnxNode:
    """Give an output its own name."""
    return OnnxNode(name, "Identity", (source,), (name,))


def _are_numbers(arguments: Sequence[object]) -> bool:
    return bool(arguments) and all(isinstance(item, int | float) for item in arguments)
