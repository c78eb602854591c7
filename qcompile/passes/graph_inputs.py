"""What a walk over a graph starts from: the batches, as its placeholders take them."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, fx

from qcompile.capture.operations import mutates
from qcompile.passes.sweep_values import Value


def graph_inputs(
    module: fx.GraphModule, batches: Sequence[Mapping[str, Tensor]], device: torch.device
) -> Iterator[tuple[str, list[Value]]]:
    """By placeholder that is read, one value a batch; copies if the graph works in place."""
    copy = any(mutates(node, module) for node in module.graph.nodes)
    for node in module.graph.find_nodes(op="placeholder"):
        if node.users:
            yield node.name, [_value(node, batch, device, copy=copy) for batch in batches]


def _value(
    node: fx.Node, batch: Mapping[str, Tensor], device: torch.device, *, copy: bool
) -> Value:
    if node.name not in batch and node.args:
        return node.args[0]
    return batch[node.name].detach().to(device, copy=copy)
