"""Fold a batch norm in evaluation into the convolution or linear layer before it.

``W' = W * g / sqrt(v + eps)`` per output channel, ``b' = (b - m) * g / sqrt(v + eps) + beta``
(Jacob et al., arXiv 1712.05877, section 3.2). Computed in float64, rounded once.
"""

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar, TypeAlias, cast

import torch
from torch import Tensor, fx, nn

from qcompile.capture.copying import own_graph, replace_leaf
from qcompile.capture.leaves import build_leaf, constructor_arguments
from qcompile.capture.node_meta import facts
from qcompile.compat.submodules import module_at
from qcompile.passes.base import PassResult
from qcompile.passes.norm_statistics import BatchNorm, note_statistics, statistics_behind

Layer: TypeAlias = (
    nn.Conv1d
    | nn.Conv2d
    | nn.Conv3d
    | nn.ConvTranspose1d
    | nn.ConvTranspose2d
    | nn.ConvTranspose3d
    | nn.Linear
)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True, slots=True)
class FoldPair:
    """Paths of a layer and of the batch norm that vanishes into it."""

    layer: str
    norm: str


@dataclass(frozen=True)
class FoldBatchNorm:
    keep: frozenset[str] = frozenset()
    """Layers or norms that stay as they are."""

    name: ClassVar[str] = "fold_bn"

    def run(self, module: fx.GraphModule) -> PassResult:
        pairs = foldable(module, self.keep)
        if not pairs:
            return PassResult(module, changed=False)
        result = own_graph(module)
        for pair in pairs:
            layer = cast("Layer", module_at(result, pair.layer))
            norm = cast("BatchNorm", module_at(result, pair.norm))
            replace_leaf(result, pair.layer, folded(layer, norm))
        absorbed = {pair.norm for pair in pairs}
        for node in list(result.graph.find_nodes(op="call_module")):
            if node.target in absorbed:
                norm = cast("BatchNorm", module_at(result, str(node.target)))
                note_statistics(node.all_input_nodes[0], statistics_behind(norm))
                node.replace_all_uses_with(node.all_input_nodes[0])
                result.graph.erase_node(node)
        result.recompile()
        result.delete_all_unused_submodules()
        return PassResult(result, changed=True)


def foldable(module: fx.GraphModule, keep: frozenset[str]) -> tuple[FoldPair, ...]:
    """The pairs, in graph order. A layer or norm that is called twice or tied has none."""
    calls = Counter(str(node.target) for node in module.graph.find_nodes(op="call_module"))
    owners = _owners(module)
    pairs: list[FoldPair] = []
    for node in module.graph.find_nodes(op="call_module"):
        source = node.all_input_nodes[0] if node.all_input_nodes else node
        if source.op != "call_module" or len(source.users) != 1:
            continue
        pair = FoldPair(str(source.target), str(node.target))
        if keep & {pair.layer, pair.norm} or calls[pair.layer] + calls[pair.norm] > 2:
            continue
        if _fits(module, pair, len(facts(source).example or ()), owners):
            pairs.append(pair)
    return tuple(pairs)


def folded(layer: Layer, norm: BatchNorm) -> Layer:
    """A copy of ``layer`` that computes ``norm(layer(x))``; both originals stay untouched."""
    mean, variance = cast("Tensor", norm.running_mean), cast("Tensor", norm.running_var)
    gain = torch.rsqrt(variance.double() + norm.eps)
    if norm.affine:
        gain = gain * norm.weight.detach().double()
    bias = -mean.double() * gain
    bias = bias + _bias(layer) * gain + _bias(norm)
    weight = layer.weight.detach()
    scaled = weight.double() * _per_output(layer, gain)
    result = cast("Layer", build_leaf(type(layer), {**constructor_arguments(layer), "bias": True}))
    needs_grad = layer.weight.requires_grad
    result.weight = nn.Parameter(scaled.to(weight.dtype), requires_grad=needs_grad)
    result.bias = nn.Parameter(bias.to(weight.dtype), requires_grad=needs_grad)
    return result


def _bias(module: Layer | BatchNorm) -> Tensor | float:
    bias = cast("Tensor | None", module.bias)
    return 0.0 if bias is None else bias.detach().double()


def _per_output(layer: Layer, gain: Tensor) -> Tensor:
    """``gain`` in the shape of ``layer.weight``; transposed weights are ``[in, out / g, ...]``."""
    dimensions = layer.weight.dim()
    if not isinstance(layer, TRANSPOSED):
        return gain.reshape(-1, *[1] * (dimensions - 1))
    by_group = gain.reshape(layer.groups, 1, -1)  # [g, 1, out / g]
    width = layer.in_channels // layer.groups
    return by_group.expand(-1, width, -1).reshape(layer.in_channels, -1, *[1] * (dimensions - 2))


def _fits(module: fx.GraphModule, pair: FoldPair, dimensions: int, owners: Counter[int]) -> bool:
    """Whether the two are what they must be; ``dimensions`` are those of the value between."""
    layer, norm = module_at(module, pair.layer), module_at(module, pair.norm)
    if not isinstance(layer, Layer) or not isinstance(norm, BatchNorm):
        return False
    if isinstance(layer, nn.Linear) and dimensions != 2:  # features must be axis 1
        return False
    if norm.training or norm.running_mean is None or norm.running_var is None:
        return False
    return all(owners[id(parameter)] == 1 for parameter in layer.parameters())


def _owners(module: fx.GraphModule) -> Counter[int]:
    """How many names each parameter has, or functions that read it."""
    named = dict(module.named_parameters(remove_duplicate=False))
    read = [
        named[str(n.target)] for n in module.graph.find_nodes(op="get_attr") if n.target in named
    ]
    return Counter(id(parameter) for parameter in (*named.values(), *read))
