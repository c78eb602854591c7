"""A lowered model run on the values of its reference, kernel by kernel."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx

from qcompile.emit.lower.counterpart import counterpart
from qcompile.emit.lower.difference import larger, relative, tensors_in


@dataclass(frozen=True, slots=True, eq=False)
class Recorded:
    """What the reference made of one set of inputs: values by node, and outputs."""

    outputs: tuple[Tensor, ...]
    values: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])


def record(
    reference: fx.GraphModule, lowered: Sequence[fx.GraphModule], inputs: Sequence[Tensor]
) -> Recorded:
    """Run the reference, and keep the values that nodes of ``lowered`` stand for."""
    pairs = (counterpart(node) for module in lowered for node in module.graph.nodes)
    recorder = _Recorder(reference, frozenset(pair.node for pair in pairs if pair is not None))
    with torch.no_grad():
        outputs = tuple(tensors_in(recorder.run(*(value.clone() for value in inputs))))
    return Recorded(outputs, recorder.values)


class _Recorder(fx.Interpreter):
    def __init__(self, module: fx.GraphModule, wanted: frozenset[str]) -> None:
        super().__init__(module)
        self.extra_traceback = False  # a refused input is no defect of the graph
        self.wanted = wanted
        self.values: dict[str, Tensor] = {}

    def run_node(self, n: fx.Node) -> object:
        made = super().run_node(n)
        if n.name in self.wanted and isinstance(made, Tensor):
            self.values[n.name] = made.clone()  # the next operation may be in place
        return made


class Forced(fx.Interpreter):
    """Give every reader of a kernel's result the reference's value instead."""

    def __init__(self, module: fx.GraphModule, values: Mapping[str, Tensor]) -> None:
        super().__init__(module)
        self.values = values
        self.worst = ("", 0.0)
        """The node of the reference that differs most, and by how much."""

    def run_node(self, n: fx.Node) -> object:
        made = super().run_node(n)
        stands_for = counterpart(n)
        if stands_for is None or not isinstance(made, Tensor):
            return made
        expected = self.values[stands_for.node]
        self.see(stands_for.node, relative(stands_for.value_of(made), expected))
        return stands_for.like(made, expected) if made.shape == expected.shape else made

    def see(self, name: str, difference: float) -> None:
        if larger(self.worst[1], difference) is not self.worst[1]:
            self.worst = (name, difference)
