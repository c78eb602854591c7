"""Integer layers of the reference graph as exact sums: what ``simulate`` computes.

In the reference they multiply floats, whose sums have other last bits in another order: for
another batch size, memory layout or machine. Behind a dozen quantizers that is another result.
"""

from dataclasses import astuple, dataclass, field

import torch
from torch import Tensor, fx

from qcompile.compat.quantize_to_bytes import quantize_to_floats
from qcompile.emit.lower.code_sums import make_code_sums
from qcompile.emit.lower.counterpart import Counterpart, set_counterpart
from qcompile.emit.lower.exact_kernels import (
    LARGEST,
    exact_conv2d,
    exact_dynamic_linear,
    exact_linear,
)
from qcompile.emit.lower.fusion import fusion
from qcompile.emit.lower.layer import DynamicInput, Layer, is_quantized, layer_of
from qcompile.emit.lower.product import Product, has_nine_bits, whole_product
from qcompile.emit.lower.rewriting import Rewriting
from qcompile.emit.lower.terms import dynamic_terms_of, terms_of
from qcompile.quant.fake_quantize import dequantize_weight


def simulation(reference: fx.GraphModule) -> fx.GraphModule:
    """A copy with exact integer layers; packed codes stay as they are."""
    rewriting = Rewriting(reference)
    make_exact(rewriting)
    return rewriting.finished()


def make_exact(rewriting: Rewriting) -> None:
    """Replace every integer layer, and sum of images and codes, that is left in the graph."""
    lowering = _ExactLowering(rewriting)
    for node in list(rewriting.graph.nodes):
        if not is_quantized(node):
            continue
        layer = layer_of(rewriting.module, node)
        if not isinstance(layer, Layer) or not is_integer(layer):
            continue
        if isinstance(layer.quantizer, DynamicInput):
            lowering.dynamic(layer, layer.quantizer)
        else:
            lowering.static(layer)
    make_code_sums(rewriting, quantize_to_floats)


def is_integer(layer: Layer) -> bool:
    """Whether its sums are of whole numbers, of one step an output."""
    if layer.quantizer is None or layer.weight.scale.shape[1] > 1:
        return False
    if isinstance(layer.quantizer, DynamicInput):
        return layer.conv is None
    if layer.conv is not None or not layer.has_computed_bias:
        return True
    return not has_nine_bits(layer.weight)


@dataclass(slots=True)
class _ExactLowering:
    rewriting: Rewriting
    weights: dict[fx.Node, fx.Node] = field(default_factory=dict[fx.Node, fx.Node])
    """Codes by the node of the weight, which several layers may read."""

    def static(self, layer: Layer) -> None:
        rewriting, grid, product = self.rewriting, layer.static_input, whole_product(layer)
        found = fusion(rewriting.module, layer, gain_alone=True)
        terms, name = terms_of(layer, product, found.gain, rewriting.attributes), layer.node.name
        slices = slices_of(product, grid.top, terms.zero_point)
        if slices is None:
            return
        source = (layer.source_now, grid.scale, grid.zero_point, grid.top)
        with rewriting.graph.inserting_before(layer.node):
            codes = rewriting.call_once(quantize_to_floats, *source)
            set_counterpart(codes, Counterpart(layer.quantized.name, grid))
            weight = self._weight(layer, product)
            factor, bias, outer = terms.nodes(rewriting, name)
            operands = (codes, terms.zero_point, weight, factor, bias)
            if layer.conv is None:
                made = rewriting.call(exact_linear, *operands, outer, slices)
            else:
                shape = astuple(layer.conv)
                made = rewriting.call(exact_conv2d, *operands, *shape, slices)
        rewriting.replace(found.last, made)

    def dynamic(self, layer: Layer, ranges: DynamicInput) -> None:
        rewriting, product, name = self.rewriting, whole_product(layer), layer.node.name
        terms, top = dynamic_terms_of(product), ranges.qmax - ranges.qmin
        slices = slices_of(product, top, -ranges.qmin if ranges.symmetric else 0)
        with rewriting.graph.inserting_before(layer.node):
            made = rewriting.call(
                exact_dynamic_linear,
                *(layer.source_now, self._weight(layer, product)),
                *terms.nodes(rewriting, name),
                *(layer.bias, astuple(ranges), slices),
            )
        rewriting.replace(layer.node, made)

    def _weight(self, layer: Layer, product: Product) -> fx.Node:
        """The codes, around zero or around what the product takes for it."""
        stored, rewriting = layer.weight_node, self.rewriting
        if stored not in self.weights:
            packed, _, _, bits, qmin, shape, axis, _ = stored.args
            middle = layer.weight.zero_point[:, 0]
            if product.offset is not None:
                middle = middle + product.offset
            zero = rewriting.buffer(f"{stored.name}_zero", middle.to(torch.uint8))
            one = rewriting.buffer(f"{stored.name}_one", torch.ones_like(product.scale))
            given = (packed, one, zero, bits, qmin, shape, axis, torch.float32)
            made = rewriting.call(dequantize_weight, *given)
            if layer.conv is None and axis:
                made = rewriting.graph.call_method("t", (made,))
            self.weights[stored] = made
        return self.weights[stored]


def slices_of(product: Product, top: int, zero_point: int) -> int | None:
    """Into how many the inputs go for sums below ``LARGEST``; ``None`` for groups that do not fit.

    Inputs are codes in ``[0, top]`` less ``zero_point``. In whatever order they are added, a sum
    stays between that of all negative products and that of all positive ones.
    """
    is_whole = product.conv is not None and product.conv.groups > 1
    for count in range(1, 2 if is_whole else product.codes.shape[1] + 1):
        parts = product.codes.chunk(count, 1)
        if all(_largest(part, top - zero_point, zero_point) <= LARGEST for part in parts):
            return count
    return None


def _largest(codes: Tensor, up: int, down: int) -> int:
    """Of sizes of sums, where inputs lie between ``-down`` and ``up``."""
    rows = codes.flatten(1)
    positive = rows.clamp(min=0).sum(1, dtype=torch.int64)
    negative = positive - rows.sum(1, dtype=torch.int64)
    high, low = positive * up + negative * down, negative * up + positive * down
    return int(torch.maximum(high, low).amax())
