"""What an integer product is multiplied by, and what is added to it: one number an output.

All that is constant comes into these two before anything runs: scales of input and weight, a factor
behind the layer, and the zero point of its input. Kernels and simulation take them from here, so
that both compute ``sum * factor + bias`` of the same numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, fx
from torch.fx.node import Argument

from qcompile.emit.lower.layer import Layer
from qcompile.emit.lower.product import Product
from qcompile.emit.lower.rewriting import Rewriting


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    factor: Tensor
    """``[out]``; one more where the product has an ``offset``."""
    bias: Tensor | Argument
    """A tensor like ``factor``, or what the graph has: a node, or ``None``."""
    zero_point: int
    """To be taken off the codes of the input; 0 where it is in the bias."""
    outer: Tensor | None = None
    """What ``add_outer`` takes where the product has an ``offset``."""

    def nodes(self, rewriting: Rewriting, name: str) -> tuple[fx.Node, Argument, fx.Node | None]:
        """``factor``, ``bias`` and ``outer``, read at the graph's point of insertion."""
        bias = self.bias
        if isinstance(bias, Tensor):
            bias = rewriting.buffer(f"{name}_bias", bias)
        factor = rewriting.buffer(f"{name}_factor", self.factor)
        return factor, bias, rewriting.optional(f"{name}_outer", self.outer)


def terms_of(
    layer: Layer, product: Product, gain: Tensor | None, attributes: Mapping[str, object]
) -> Terms:
    """For a layer of static input. ``attributes`` are those of the graph, by path.

    The scales of input and weight are one number, rounded once: given both, oneDNN multiplies the
    sums by one and then by the other, or by their product, as the processor has it. A zero point
    goes into the bias, unless images are padded with it: oneDNN takes up to a fifth of a product's
    time to take it off the sums.
    """
    grid = layer.static_input
    exact = product.scale.to(torch.float64)
    if gain is not None:
        exact = exact * gain
    has_sum = product.offset is not None
    outer = None if product.offset is None else (exact * product.offset).to(torch.float32)
    if has_sum:
        exact = torch.cat((exact, torch.ones(1)))
    factor, bias = (exact * grid.scale).to(torch.float32), layer.bias
    if layer.has_computed_bias:
        return Terms(factor, bias, grid.zero_point)  # such a product has neither gain nor sum
    is_folded = bool(grid.zero_point) and (layer.conv is None or not any(layer.conv.padding))
    if gain is None and not is_folded and not has_sum:
        return Terms(factor, bias, grid.zero_point)
    added = torch.zeros(product.scale.shape, dtype=torch.float64)
    if isinstance(bias, fx.Node):
        added += cast("Tensor", attributes[str(bias.target)]).detach()
    if gain is not None:
        added *= gain
    if has_sum:
        added = torch.cat((added, torch.zeros(1)))
    if is_folded:
        sums = product.codes.flatten(1).sum(1, dtype=torch.int64)
        added -= grid.zero_point * factor.to(torch.float64) * sums
    return Terms(factor, added.to(torch.float32), 0 if is_folded else grid.zero_point, outer)


@dataclass(frozen=True, slots=True, eq=False)
class DynamicTerms:
    """Of an input that brings its own step and zero point along."""

    factor: Tensor
    column_sums: Tensor
    """What a zero point is multiplied by."""
    outer: Tensor | None

    def nodes(self, rewriting: Rewriting, name: str) -> tuple[fx.Node, fx.Node, fx.Node | None]:
        """All of them, read at the graph's point of insertion."""
        factor = rewriting.buffer(f"{name}_factor", self.factor)
        sums = rewriting.buffer(f"{name}_sums", self.column_sums)
        return factor, sums, rewriting.optional(f"{name}_outer", self.outer)


def dynamic_terms_of(product: Product) -> DynamicTerms:
    factor, outer = product.scale, None
    if product.offset is not None:
        outer = factor * product.offset
        factor = torch.cat((factor, torch.ones(1)))
    sums = product.codes.sum(1, dtype=torch.int64).to(torch.float32) * factor
    return DynamicTerms(factor, sums, outer)
