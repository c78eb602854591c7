"""Layers as integer products of oneDNN: uint8 activations, int8 weights, packed here."""

from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import cast

import torch
from torch import Tensor, fx
from torch.fx.node import Argument

from qcompile.capture.node_meta import facts
from qcompile.compat.onednn_operations import OneDnn, order_of
from qcompile.emit.lower.code_sums import make_code_sums
from qcompile.emit.lower.counterpart import Counterpart, counterpart, set_counterpart
from qcompile.emit.lower.fusion import Fusion, fusion
from qcompile.emit.lower.kernels import (
    add_outer,
    channels_twice,
    dynamic_linear,
    more_columns_than_one,
    packed_for,
    quantize,
    rows_twice,
    with_rows_of,
)
from qcompile.emit.lower.layer import ConvShape, DynamicInput, Layer
from qcompile.emit.lower.limits import may_miscount_one_column
from qcompile.emit.lower.on_codes import quantize_earlier
from qcompile.emit.lower.product import ROWS, Product, product_of
from qcompile.emit.lower.rewriting import Rewriting
from qcompile.emit.lower.terms import dynamic_terms_of, terms_of

IMAGE_AXES = 3
ONE, SEVERAL, MANY = 1, (2, 8), 16
"""Numbers of images from which on oneDNN may want a weight in another order."""


@dataclass(slots=True)
class IntegerLowering:
    rewriting: Rewriting
    onednn: OneDnn

    def static(self, layers: list[Layer]) -> dict[str, tuple[str, ...]]:
        """Replace the layers, in the order of the graph; give what each took over, by node.

        So are the sums with codes that they took over, each of which took over nothing.

        All quantizers are made before the first product, which looks for the one behind it.
        """
        for layer in layers:
            self._quantize_input(layer)
        if layers:
            make_code_sums(self.rewriting, quantize, True)
        for layer in layers:
            self._quantize_earlier(layer)
        taken: dict[str, tuple[str, ...]] = {}
        pending = {layer.node for layer in layers}
        for layer in layers:
            product = product_of(layer)
            has_sum = product.offset is not None
            found = fusion(self.rewriting.module, layer, pending, gain_alone=has_sum)
            pending.remove(layer.node)
            taken[layer.node.name] = found.names
            if found.code_sum is not None:
                taken[_of_reference(found.code_sum)] = ()
            self._emit(found, product)
        return taken

    def dynamic(self, layer: Layer) -> None:
        ranges, product = layer.quantizer, product_of(layer)
        assert isinstance(ranges, DynamicInput)
        rewriting, terms, name = self.rewriting, dynamic_terms_of(product), layer.node.name
        with rewriting.graph.inserting_before(layer.node):
            made = rewriting.call(
                dynamic_linear,
                layer.source_now,
                rewriting.buffer(f"{name}_packed", self._packed_linear(product.codes)),
                *terms.nodes(rewriting, name),
                layer.bias,
                astuple(ranges),
                self.onednn.linear,
            )
        rewriting.replace(layer.node, made)

    # ---- inputs ---------------------------------------------------------------------------------

    def _quantize_input(self, layer: Layer) -> None:
        """Make the codes of the layer's input, or take those that another layer made of it.

        The quantizer of the reference goes, so that its source shows who really reads it.
        """
        quantized = layer.quantized
        codes = self._codes(layer, quantized)
        layer.node.args = (codes, *layer.node.args[1:])
        self.rewriting.drop(quantized)

    def _codes(self, layer: Layer, quantized: fx.Node) -> fx.Node:
        grid = layer.static_input
        wanted = (layer.source_now, grid.scale, grid.zero_point, grid.top, layer.conv is not None)
        with self.rewriting.graph.inserting_before(quantized):
            made = self.rewriting.call_once(quantize, *wanted)
        set_counterpart(made, Counterpart(quantized.name, grid))
        return made

    def _quantize_earlier(self, layer: Layer) -> None:
        codes = layer.node.args[0]
        if isinstance(codes, fx.Node) and codes.target is quantize:
            quantize_earlier(self.rewriting, codes)

    # ---- products -------------------------------------------------------------------------------

    def _emit(self, found: Fusion, product: Product) -> None:
        layer, conv = found.layer, product.conv
        rewriting, name = self.rewriting, found.layer.node.name
        with rewriting.graph.inserting_before(found.place):
            terms = terms_of(layer, product, found.gain, rewriting.attributes)
            factor, bias, outer = terms.nodes(rewriting, name)
            grid = (1.0, terms.zero_point)  # the scale is in the factor
            codes = self._given(layer, product)
            operands = (
                *(codes, *grid),
                self._packed(layer, product, terms.factor, grid, codes),
                factor,
                rewriting.buffer(
                    f"{name}_zeros", torch.zeros_like(terms.factor, dtype=torch.int64)
                ),
            )
            if conv is None:
                made = self._linear(found, operands, bias)
                if _may_lose_axes(layer.source):
                    made = rewriting.call(with_rows_of, made, operands[0])
            else:
                made = self._conv(found, conv, operands, bias)
            if outer is not None:
                made = rewriting.call(add_outer, made, outer)
        rewriting.replace(found.last, made)

    def _given(self, layer: Layer, product: Product) -> fx.Node:
        """The codes of the input, twice where the product wants them so; made once for all."""
        codes = self._wide_enough(layer, cast("fx.Node", layer.node.args[0]))
        if product.twice is None:
            return codes
        doubled = rows_twice if product.twice == ROWS else channels_twice
        for reader in codes.users:
            if reader.target is doubled:
                return reader
        with self.rewriting.graph.inserting_after(codes):
            return self.rewriting.call(doubled, codes)

    def _wide_enough(self, layer: Layer, codes: fx.Node) -> fx.Node:
        """The codes, looked at when the model runs where the graph leaves their width open."""
        conv, (*_, width) = layer.conv, facts(layer.node).shape or (None,)
        if conv is None or isinstance(width, int) or not may_miscount_one_column(layer, conv):
            return codes
        kernel = tuple(layer.weight.codes.shape[2:])
        given = (conv.stride, conv.padding, conv.dilation)
        return self.rewriting.call(more_columns_than_one, codes, kernel, given)

    def _linear(self, found: Fusion, operands: tuple[Argument, ...], bias: Argument) -> fx.Node:
        result, unary = _result(found), _unary(found)
        if found.other is None:
            return self.rewriting.call(self.onednn.linear, *operands, bias, *result, *unary)
        other = found.other
        if not found.in_place:  # oneDNN takes rows for granted that lie one behind the other
            other = self.rewriting.graph.call_method("contiguous", (other,))
        added = (1.0, 0, "sum" if found.in_place else "add", 1.0)
        return self.rewriting.call(
            self.onednn.linear_add, *operands, other, bias, *result, *added, *unary
        )

    def _conv(
        self, found: Fusion, conv: ConvShape, operands: tuple[Argument, ...], bias: Argument
    ) -> fx.Node:
        result, unary = _result(found), _unary(found)
        shape = (list(conv.stride), list(conv.padding), list(conv.dilation), conv.groups)
        if found.other is None:
            return self.rewriting.call(self.onednn.conv2d, *operands, bias, *shape, *result, *unary)
        grid: tuple[Argument, ...] = (1.0, 0)
        if found.code_sum is not None:
            grid = found.code_sum.args[2:]
        added = (*grid, "sum", 1.0)
        return self.rewriting.call(
            *(self.onednn.conv2d_add, *operands, found.other, bias, *shape, *result),
            *(*added, *unary),
        )

    def _packed(
        self,
        layer: Layer,
        product: Product,
        scale: Tensor,
        grid: tuple[float, int],
        codes: fx.Node,
    ) -> fx.Node:
        """Pack a convolution for images of its size, once for each order that oneDNN has.

        Packed for any size, weights 3x3 for images 7x7 are reordered in every call; with AMX so are
        others for several images that were packed for one, which can take far longer than the
        product. Images of another size, or in another number, still give the right numbers.
        """
        rewriting, conv, name = self.rewriting, product.conv, f"{layer.node.name}_packed"
        if conv is None:
            return rewriting.buffer(name, self._packed_linear(product.codes))
        shape = (list(conv.stride), list(conv.padding), list(conv.dilation), conv.groups)
        size = _image_size(layer.source)
        if size is not None and product.twice is not None:
            size[product.twice - 1] *= 2

        def pack(count: int) -> Tensor:
            images = [count, *size] if size else None
            packed = self.onednn.pack_conv(product.codes, scale, *grid, *shape, images)
            return cast("Tensor", packed)

        if size is None:
            return rewriting.buffer(name, pack(ONE))
        made = in_all_orders(pack)
        buffers = [rewriting.buffer(name, packed) for packed in made.values()]
        if len(buffers) == 1:
            return buffers[0]
        return rewriting.call(packed_for, codes, tuple(made), *buffers)

    def _packed_linear(self, codes: Tensor) -> Tensor:
        return cast("Tensor", self.onednn.pack_linear(codes, None))


def in_all_orders(pack: Callable[[int], Tensor]) -> dict[int, Tensor]:
    """A weight packed by the least number of images that wants it so, in ascending order.

    Where one image and many want the same, as they do without AMX, all numbers do.
    """
    few, many = pack(ONE), pack(MANY)
    if order_of(few) == order_of(many):
        return {ONE: few}
    made, last = {ONE: few}, order_of(few)
    for count in (*SEVERAL, MANY):
        packed = many if count == MANY else pack(count)
        if (order := order_of(packed)) != last:
            made[count], last = packed, order
    return made


def _may_lose_axes(source: fx.Node) -> bool:
    """Whether there can be no rows, on more axes than one."""
    rows = (facts(source).shape or ())[:-1]
    return len(rows) != 1 and not all(isinstance(size, int) and size > 0 for size in rows)


def _image_size(source: fx.Node) -> list[int] | None:
    """``None`` where the size of one image is free."""
    shape = facts(source).shape or ()
    one = [size for size in shape[1:] if isinstance(size, int)]
    return one if len(one) == IMAGE_AXES else None


def _result(found: Fusion) -> tuple[float, int, torch.dtype]:
    """Scale, zero point and type of what is written."""
    if found.codes is None:
        return 1.0, 0, torch.float32
    return found.codes.scale, found.codes.zero_point, torch.uint8


def _of_reference(node: fx.Node) -> str:
    """The node that ``node`` stands for."""
    pair = counterpart(node)
    assert pair is not None, "the lowering has put it there"
    return pair.node


def _unary(found: Fusion) -> tuple[str, list[float], str]:
    if found.unary is None:
        return "none", [], ""
    return found.unary.name, list(found.unary.arguments), found.unary.algorithm
