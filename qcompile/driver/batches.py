"""Batches of data as the graph takes them: by the name of the placeholder."""

from collections.abc import Sequence

from torch import Tensor, fx

from qcompile.data.batches import Batch, model_arguments, split_off


def placeholder_batches(
    module: fx.GraphModule, batches: Sequence[Batch], labels: str | None
) -> list[dict[str, Tensor]]:
    """Without labels, keyed by node name."""
    nodes = [node for node in module.graph.nodes if node.op == "placeholder"]
    by_target = {str(node.target): node.name for node in nodes}
    found: list[dict[str, Tensor]] = []
    for batch in batches:
        args, kwargs = model_arguments(split_off(batch, labels)[0])
        named = {node.name: value for node, value in zip(nodes, args, strict=False)}
        found.append(named | {by_target[name]: value for name, value in kwargs.items()})
    return found
