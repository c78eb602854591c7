"""A captured graph as a document, or what stands in the way of storing it (QR530)."""

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import cast

from pydantic import JsonValue
from torch import Tensor, fx, nn

from qcompile.capture.leaves import LEAVES, class_name, constructor_arguments
from qcompile.capture.node_meta import facts
from qcompile.capture.paths import is_safe_path
from qcompile.compat.submodules import module_at
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.emit.allowed import ALL_METHODS, ATTRIBUTES, DTYPE_OF, NAMES
from qcompile.emit.graph_document import GraphDocument, LeafRecord, NodeOp, NodeRecord
from qcompile.emit.graph_values import UnstorableValueError, encode_value
from qcompile.emit.tensor_table import called_leaves, tensor_table


def encode(module: fx.GraphModule) -> tuple[GraphDocument, list[Diagnostic]]:
    """Describe graph, leaves and tensors; with diagnostics, the nodes that can be stored alone."""
    problems: list[Diagnostic] = []
    nodes: list[NodeRecord] = []
    for node in module.graph.nodes:
        try:
            nodes.append(_node_record(module, node))
        except UnstorableValueError as error:
            problems.append(unstorable(node, str(error)))
    if problems:
        return GraphDocument(nodes=tuple(nodes), leaves=(), tensors=()), problems
    table = [item.record for item in tensor_table(module)]
    problems.extend(
        _unstorable_tensor(record.name, record.dtype)
        for record in table
        if record.dtype not in DTYPE_OF
    )
    document = GraphDocument(
        nodes=tuple(nodes),
        leaves=tuple(_leaf_records(called_leaves(module))),
        tensors=tuple(table),
    )
    return document, problems


def _node_record(module: fx.GraphModule, node: fx.Node) -> NodeRecord:
    known = facts(node)
    kwargs = cast("dict[str, object]", node.kwargs)
    return NodeRecord(
        op=cast("NodeOp", node.op),
        name=node.name,
        target=_target(module, node),
        args=tuple(encode_value(arg) for arg in node.args),
        kwargs={name: encode_value(value) for name, value in kwargs.items()},
        module=known.stack[-1].path if known.stack else "",
        shape=known.shape,
        dtype=known.dtype,
    )


def _target(module: fx.GraphModule, node: fx.Node) -> str:
    target = node.target
    match node.op:
        case "call_function":
            return _function_name(node, cast("Callable[..., object]", target))
        case "call_method":
            if target not in ALL_METHODS:
                raise UnstorableValueError(f"the method `Tensor.{target}`")
        case "call_module" | "get_attr":
            _check_reference(module, node.op, str(target))
        case _:
            pass
    return str(target)


def _function_name(node: fx.Node, function: Callable[..., object]) -> str:
    name = NAMES.get(function)
    if name is None:
        home = getattr(function, "__module__", None) or "builtins"
        raise UnstorableValueError(f"the function `{home}.{getattr(function, '__name__', '?')}`")
    if function is getattr and (len(node.args) != 2 or node.args[1] not in ATTRIBUTES):
        raise UnstorableValueError(f"the attribute `{node.args[-1]}`")
    return name


def _check_reference(module: fx.GraphModule, op: str, path: str) -> None:
    if not is_safe_path(path):
        raise UnstorableValueError(f"the path `{path}`")
    if op == "get_attr":
        if not isinstance(attrgetter(path)(module), Tensor):
            raise UnstorableValueError(f"the attribute `{path}`, which is not a tensor")
        return
    kind = type(module_at(module, path))
    if kind not in LEAVES:
        raise UnstorableValueError(f"the module class `{kind.__name__}`")


def _leaf_records(leaves: dict[str, nn.Module]) -> Iterable[LeafRecord]:
    for path in sorted(leaves):
        leaf = leaves[path]
        arguments: dict[str, JsonValue] = {
            name: encode_value(value) for name, value in constructor_arguments(leaf).items()
        }
        yield LeafRecord(path=path, class_name=class_name(type(leaf)), arguments=arguments)


def unstorable(node: fx.Node, what: str) -> Diagnostic:
    """QR530."""
    stack = facts(node).stack
    place = f" in `{stack[-1].path}`" if stack else ""
    return Diagnostic(
        Code.UNSTORABLE_OPERATION,
        f"{what} cannot be stored in an artifact",
        subject=f"node `{node.name}`{place}",
        help="write it with functions of `torch` and `torch.nn.functional`",
    )


def _unstorable_tensor(name: str, dtype: str) -> Diagnostic:
    """QR530."""
    return Diagnostic(
        Code.UNSTORABLE_OPERATION,
        f"a tensor of dtype `{dtype}` cannot be stored in an artifact",
        subject=name,
        help="hold it in another dtype",
    )
