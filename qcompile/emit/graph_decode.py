"""A document as a graph that runs; whatever this program would not have written is refused.

Until the graph is called nothing is executed but the constructors of the closed table of leaves,
on shapes alone. Names are looked up in literal tables and are never imported or evaluated.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from inspect import signature
from keyword import iskeyword
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.fx.node import Argument

from qcompile.capture.leaves import LEAVES, build_leaf
from qcompile.capture.leaves import JsonValue as LeafArgument
from qcompile.capture.node_meta import NodeFacts, set_facts
from qcompile.capture.paths import is_safe_path
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.emit.allowed import (
    ALL_METHODS,
    ATTRIBUTES,
    DTYPE_OF,
    FUNCTIONS,
    LEAF_CLASSES,
    dtype_name,
)
from qcompile.emit.graph_document import (
    GraphDocument,
    LeafRecord,
    NodeRecord,
    TensorRecord,
    unsafe_graph,
)
from qcompile.emit.graph_values import UnsafeValueError, decode_value
from qcompile.emit.tensor_table import own_tensors

MAX_NAME = 256


class _Refused(Exception):
    """Something in the document breaks a rule; ``place`` is a node, leaf or tensor."""

    def __init__(self, why: str, place: str) -> None:
        super().__init__(why)
        self.place = place


def decode(
    document: GraphDocument, tensors: Mapping[str, Tensor], absent: Collection[str] = ()
) -> fx.GraphModule | list[Diagnostic]:
    """Build the graph, in eval mode, on the ``tensors`` by stored name.

    Tensors named in ``absent`` (weights that exist as codes only) are put on the meta device, in
    shape alone, for ``materialize`` to replace.
    """
    try:
        return _Builder(document, tensors, frozenset(absent)).build()
    except _Refused as refused:
        return [unsafe_graph(str(refused), refused.place)]


@dataclass(slots=True)
class _Builder:
    document: GraphDocument
    tensors: Mapping[str, Tensor]
    absent: frozenset[str]
    made: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    """Stored name and kind to the tensor object that all of its names share."""
    attributes: dict[str, object] = field(default_factory=dict)
    """Leaf modules and tensors by path, as ``fx.GraphModule`` takes them."""

    def build(self) -> fx.GraphModule:
        records = {record.name: record for record in self.document.tensors}
        leaves = {leaf.path: leaf for leaf in self.document.leaves}
        if len(records) < len(self.document.tensors) or len(leaves) < len(self.document.leaves):
            raise _Refused("names a tensor or a module twice", "")
        for leaf in leaves.values():
            self.attributes[leaf.path] = self._leaf(leaf, records)
        for record in records.values():
            self._check_path(record.name)
            owner, _, name = record.name.rpartition(".")
            if owner in leaves and name not in own_tensors(self._made_leaf(owner)):
                raise _Refused("has a tensor that its module has not", record.name)
            self.attributes[record.name] = self._tensor(record)
        graph = self._graph()
        try:
            graph.lint()
            module = fx.GraphModule(cast("dict[str, Any]", self.attributes), graph)
        except (
            RuntimeError,
            AttributeError,
            LookupError,
            TypeError,
            ValueError,
            SyntaxError,
        ) as error:
            raise _Refused("does not fit together", "") from error
        self._mark_buffers(module, {node.target for node in graph.nodes if node.op == "get_attr"})
        return module.eval()

    # ---- tensors and leaves ---------------------------------------------------------------------

    def _leaf(self, leaf: LeafRecord, records: Mapping[str, TensorRecord]) -> nn.Module:
        self._check_path(leaf.path)
        kind = LEAF_CLASSES.get(leaf.class_name)
        if kind is None or not leaf.arguments.keys() <= set(LEAVES[kind]):
            raise _Refused(f"wants to make a `{leaf.class_name}`", leaf.path)
        module = _constructed(kind, leaf)
        for name, expected in own_tensors(module).items():
            record = records.get(f"{leaf.path}.{name}")
            if record is None or not _has_form_of(record, expected):
                raise _Refused(f"has no fitting tensor `{name}`", leaf.path)
            _put(module, name, self._tensor(record), record.persistent)
        return module

    def _made_leaf(self, path: str) -> nn.Module:
        return cast("nn.Module", self.attributes[path])

    def _tensor(self, record: TensorRecord) -> Tensor:
        """Make the tensor of a record; aliases get the very object of the name they stand for."""
        key = (record.stored_as, record.kind)
        if key not in self.made:
            stored = self._stored(record)
            is_parameter = record.kind == "parameter"
            self.made[key] = nn.Parameter(stored, requires_grad=False) if is_parameter else stored
        _check_fits(record, self.made[key])
        return self.made[key]

    def _stored(self, record: TensorRecord) -> Tensor:
        if record.stored_as in self.absent or record.name in self.absent:
            return _without_data(record)
        stored = self.tensors.get(record.stored_as)
        if stored is None:
            raise _Refused("reads a tensor that is not there", record.name)
        return stored

    def _check_path(self, path: str) -> None:
        if not is_safe_path(path):
            raise _Refused("has a path that cannot be a module's", path)

    def _mark_buffers(self, module: fx.GraphModule, read: Collection[object]) -> None:
        """Say again which buffers are not part of a state dict: ``fx`` forgets it."""
        for record in self.document.tensors:
            owner, _, name = record.name.rpartition(".")
            if not record.persistent and record.name in read:
                _put(module.get_submodule(owner), name, self._tensor(record), persistent=False)

    # ---- nodes ----------------------------------------------------------------------------------

    def _graph(self) -> fx.Graph:
        graph = fx.Graph()
        nodes: dict[str, fx.Node] = {}
        *before, last = [record.op for record in self.document.nodes] or [""]
        if last != "output" or "output" in before:
            raise _Refused("has not one output at its end", "")
        for record in self.document.nodes:
            nodes[record.name] = self._node(graph, record, nodes)
        return graph

    def _node(self, graph: fx.Graph, record: NodeRecord, nodes: Mapping[str, fx.Node]) -> fx.Node:
        if not _is_name(record.name) or record.name in nodes:
            raise _Refused("has a node without a name of its own", record.name)
        try:
            args = tuple(decode_value(arg, nodes) for arg in record.args)
            kwargs = {name: decode_value(arg, nodes) for name, arg in record.kwargs.items()}
        except UnsafeValueError as error:
            raise _Refused(str(error), record.name) from error
        if not all(_is_name(name) for name in kwargs):
            raise _Refused("has a keyword that is not a name", record.name)
        _check_arity(record, args, kwargs)
        target = self._target(record)
        node = graph.create_node(record.op, target, args, kwargs, record.name)
        if node.name != record.name:
            raise _Refused("has a node whose name is taken", record.name)
        set_facts(node, NodeFacts(shape=record.shape, dtype=record.dtype))
        return node

    def _target(self, record: NodeRecord) -> Callable[..., object] | str:
        target = record.target
        match record.op:
            case "call_function":
                known: Callable[..., object] | str | None = FUNCTIONS.get(target)
            case "call_method":
                known = target if target in ALL_METHODS else None
            case "call_module":
                known = target if isinstance(self.attributes.get(target), nn.Module) else None
            case "get_attr":
                known = target if isinstance(self.attributes.get(target), Tensor) else None
            case "placeholder":
                known = target if _is_name(target) else None
            case "output":
                known = "output"
        if known is None:
            raise _Refused(f"wants to use `{target}`", record.name)
        return known


def _constructed(kind: type[nn.Module], leaf: LeafRecord) -> nn.Module:
    try:
        arguments = {name: decode_value(item, {}) for name, item in leaf.arguments.items()}
        return build_leaf(kind, cast("dict[str, LeafArgument]", arguments))
    except (UnsafeValueError, TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        raise _Refused(f"cannot make a `{leaf.class_name}`", leaf.path) from error


def _check_arity(
    record: NodeRecord, args: tuple[Argument, ...], kwargs: Mapping[str, Argument]
) -> None:
    """Forms that Python source gives a meaning of their own."""
    if record.op == "output" and (len(args) != 1 or kwargs):
        raise _Refused("has an output that is not one value", record.name)
    if record.op in {"placeholder", "get_attr"} and (args or kwargs):
        raise _Refused("has arguments where none can be", record.name)
    if record.op == "call_method" and not (args and isinstance(args[0], fx.Node)):
        raise _Refused("calls a method of something that is not a node", record.name)
    function = FUNCTIONS.get(record.target) if record.op == "call_function" else None
    if function is getattr and not _is_attribute_read(args, kwargs):
        raise _Refused("reads an attribute that is not a tensor's", record.name)
    if function is not None and record.target.startswith("operator."):
        operands = len(signature(function).parameters)
        if kwargs or len(args) != operands:
            raise _Refused(f"gives `{record.target}` other than {operands} operands", record.name)


def _is_attribute_read(args: tuple[Argument, ...], kwargs: Mapping[str, Argument]) -> bool:
    return len(args) == 2 and not kwargs and isinstance(args[0], fx.Node) and args[1] in ATTRIBUTES


def _has_form_of(record: TensorRecord, expected: Tensor) -> bool:
    is_parameter = isinstance(expected, nn.Parameter)
    same_kind = (record.kind == "parameter") == is_parameter
    return same_kind and record.shape == tuple(expected.shape)


def _check_fits(record: TensorRecord, tensor: Tensor) -> None:
    if dtype_name(tensor.dtype) != record.dtype or tuple(tensor.shape) != record.shape:
        raise _Refused("disagrees with the stored tensor", record.name)


def _without_data(record: TensorRecord) -> Tensor:
    if record.dtype not in DTYPE_OF:
        raise _Refused("has a tensor of unknown dtype", record.name)
    try:
        return torch.empty(record.shape, dtype=DTYPE_OF[record.dtype], device="meta")
    except (RuntimeError, OverflowError, TypeError) as error:
        raise _Refused("has a tensor of impossible shape", record.name) from error


def _put(module: nn.Module, name: str, tensor: Tensor, persistent: bool) -> None:
    if isinstance(tensor, nn.Parameter):
        module.register_parameter(name, tensor)
    else:
        module.register_buffer(name, tensor, persistent=persistent)


def _is_name(text: str) -> bool:
    return text.isidentifier() and text.isascii() and not iskeyword(text) and len(text) <= MAX_NAME
