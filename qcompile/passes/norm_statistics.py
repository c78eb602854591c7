"""Mean and spread that a batch norm says its channels have: those of the data it was trained on.

The output of a batch norm in evaluation has, over its training data, its bias for mean and its gain
for standard deviation. So has the output of a layer that the norm is folded into; the pass that
folds it leaves a note on the node.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias, cast

import torch
from torch import Tensor, fx, nn

KEY = "qcompile.norm_statistics"
BatchNorm: TypeAlias = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d


@dataclass(frozen=True, slots=True, eq=False)
class NormStatistics:
    """Of the channels of a value, which are its axis 1; ``[channels]``."""

    mean: Tensor
    deviation: Tensor


def statistics_behind(norm: BatchNorm) -> NormStatistics:
    if norm.affine:
        return NormStatistics(norm.bias.detach().clone(), norm.weight.detach().abs())
    zeros = torch.zeros_like(cast("Tensor", norm.running_mean))
    return NormStatistics(zeros, torch.ones_like(zeros))


def note_statistics(node: fx.Node, found: NormStatistics) -> None:
    """Of the value of ``node``. A pass that changes that value takes the note away, or mends it."""
    node.meta[KEY] = found


def scale_statistics(node: fx.Node, factors: Tensor) -> None:
    """Mend the note, if there is one, after the channels were divided by ``factors``."""
    noted = cast("NormStatistics | None", node.meta.get(KEY))
    if noted is not None:
        by = factors.to(noted.mean.dtype)
        note_statistics(node, NormStatistics(noted.mean / by, noted.deviation / by))


def statistics(module: fx.GraphModule, nodes: Iterable[fx.Node]) -> dict[str, NormStatistics]:
    """By name, of the nodes whose values have them."""
    found: dict[str, NormStatistics] = {}
    for node in nodes:
        noted = cast("NormStatistics | None", node.meta.get(KEY))
        leaf = module.get_submodule(str(node.target)) if node.op == "call_module" else None
        if noted is not None:
            found[node.name] = noted
        elif isinstance(leaf, BatchNorm) and leaf.running_mean is not None and not leaf.training:
            found[node.name] = statistics_behind(leaf)
    return found
