"""An operation of several tensors that the table of roles does not know may need one scale."""

from collections import defaultdict
from collections.abc import Iterator

from torch import fx

from qcompile.analysis.context import Context
from qcompile.capture.node_meta import facts
from qcompile.capture.operands import activations
from qcompile.capture.operations import written_name
from qcompile.capture.roles import role_of
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic

SHOWN = 5


def unknown_operation(context: Context) -> Iterator[Diagnostic]:
    """QR516: one for each operation, where activations are quantized at all."""
    quantizes = any(slot != "weight" for _, d in context.decided() for slot, _ in d.quantized)
    if not quantizes:
        return
    found: dict[str, list[fx.Node]] = defaultdict(list)
    for node in context.graph.graph.nodes:
        if role_of(node, context.graph) is None and len(activations(node, context.graph)) > 1:
            found[written_name(node, context.graph)].append(node)
    for name, nodes in found.items():
        yield unknown_join(name, nodes)


def unknown_join(name: str, nodes: list[fx.Node]) -> Diagnostic:
    """QR516."""
    places = [_place(node) for node in nodes]
    more = (f"and {len(places) - SHOWN} more",) if len(places) > SHOWN else ()
    return Diagnostic(
        Code.UNKNOWN_OPERATION,
        f"`{name}` reads several tensors, and it is not known whether they need one scale",
        subject=places[0],
        notes=(*places[:SHOWN], *more),
        help="its operands are taken as independent; check the result, or write it with "
        "operations that are known",
    )


def _place(node: fx.Node) -> str:
    stack = facts(node).stack
    return f"{stack[-1].path}: {node.name}" if stack else node.name
