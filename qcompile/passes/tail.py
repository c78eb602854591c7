"""The float rest of the network behind a stretch: from its main output to the network's own.

Its weights are the model's, not quantized ones. What else crosses the boundary, such as a skip or
a mask, comes from the cached streams; nothing before the boundary is run again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, fx

from qcompile.capture.main_output import main_output
from qcompile.capture.memory import memory_of, written_memory
from qcompile.capture.operations import mutates
from qcompile.data.metrics import primary_output
from qcompile.passes.sweep_node import Operation, operation
from qcompile.passes.sweep_streams import Streams
from qcompile.passes.sweep_values import Value, map_tensors


@dataclass(frozen=True, slots=True, eq=False)
class Tail:
    """Holds references to the streams' values as they are now, and no copies."""

    start: str
    """Name of the node whose value is handed in."""
    end: str
    operations: tuple[Operation, ...]
    sides: Mapping[str, Sequence[Value]]
    """By node and batch: the other values that are read, behind the quantized prefix."""
    plain_sides: Mapping[str, Sequence[Value]]
    """The same in the float model."""
    works_in_place: bool

    def __call__(self, value: Tensor, number: int, *, plain: bool = False) -> Tensor:
        """The network's output for batch ``number``; the gradient passes through.

        ``plain``: ``value`` is the float model's, and the side values are too.
        """
        sides = self.plain_sides if plain else self.sides
        values: dict[str, Value] = {name: side[number] for name, side in sides.items()}
        values[self.start] = value
        if self.works_in_place:
            values = {name: _copy(item) for name, item in values.items()}

        def lookup(_: int, used: fx.Node) -> Value:
            return values[used.name]

        for run in self.operations:
            values[run.node.name] = run(lookup)
        return cast("Tensor", primary_output(values[self.end])).float()


def tail_behind(
    module: fx.GraphModule, start: str, streams: Streams, device: torch.device
) -> Tail | None:
    """``None`` where the network's main output does not depend on ``start``.

    Whatever is still read later is live in ``streams`` when the stretch is done.
    """
    (output,) = module.graph.find_nodes(op="output")
    end = main_output(output.args[0])
    if end is None:
        return None
    needed = {end.name}
    sides: set[str] = set()
    read = set(memory_of(module, end))
    is_behind = True
    for node in reversed(module.graph.nodes):
        is_behind = is_behind and node.name != start
        if is_behind and written_memory(module, node) & read:
            needed.add(node.name)  # its result need not be read where what it writes to is
        if node.name not in needed or node.op == "get_attr" or node.name == start:
            continue
        for used in node.all_input_nodes:
            read |= memory_of(module, used)
        if node.name in streams.live:
            sides.add(node.name)
        else:
            needed |= {used.name for used in node.all_input_nodes}
    if start not in needed:
        return None
    nodes = [
        node
        for node in module.graph.nodes
        if node.name in needed - sides - {start} and node.op != "get_attr"
    ]
    return Tail(
        start=start,
        end=end.name,
        operations=tuple(operation(module, node, device, {}) for node in nodes),
        sides={name: streams.quantized_values(name) for name in sides},
        plain_sides={name: streams.float_values(name) for name in sides},
        works_in_place=any(mutates(node, module) for node in nodes),
    )


def _copy(value: Value) -> Value:
    return map_tensors(value, Tensor.clone)
