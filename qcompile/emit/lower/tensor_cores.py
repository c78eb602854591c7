"""Linear layers as products on tensor cores."""

from dataclasses import astuple

import torch
from torch import fx

from qcompile.compat.tensor_cores import packed_fp8, packed_int8
from qcompile.emit.lower.fp8_layer import Fp8Layer
from qcompile.emit.lower.fusion import fusion
from qcompile.emit.lower.layer import DynamicInput, Layer
from qcompile.emit.lower.product import Product, product_of
from qcompile.emit.lower.rewriting import Rewriting
from qcompile.emit.lower.tensor_core_kernels import dynamic_int8_linear, fp8_product, int8_linear
from qcompile.emit.lower.terms import dynamic_terms_of, terms_of


def int8(rewriting: Rewriting, layer: Layer) -> tuple[str, ...]:
    """Give the names of what the product took over."""
    if isinstance(layer.quantizer, DynamicInput):
        _dynamic_int8(rewriting, layer, layer.quantizer)
        return ()
    product, name = product_of(layer), layer.node.name
    found = fusion(rewriting.module, layer, gain_alone=True)
    terms = terms_of(layer, product, found.gain, rewriting.attributes)
    with rewriting.graph.inserting_before(layer.node):
        made = rewriting.call(
            int8_linear,
            *(layer.source_now, *_codes(rewriting, name, product)),
            *(astuple(layer.static_input), terms.zero_point),
            *terms.nodes(rewriting, name),
        )
    rewriting.replace(found.last, made)
    return found.names


def _dynamic_int8(rewriting: Rewriting, layer: Layer, ranges: DynamicInput) -> None:
    product, name = product_of(layer), layer.node.name
    terms = dynamic_terms_of(product)
    with rewriting.graph.inserting_before(layer.node):
        made = rewriting.call(
            dynamic_int8_linear,
            *(layer.source_now, *_codes(rewriting, name, product)),
            *terms.nodes(rewriting, name),
            *(layer.bias, astuple(ranges)),
        )
    rewriting.replace(layer.node, made)


def _codes(rewriting: Rewriting, name: str, product: Product) -> tuple[fx.Node, fx.Node]:
    """Packed, and their sums."""
    sums = product.codes.sum(1, dtype=torch.int32)
    packed = rewriting.buffer(f"{name}_packed", packed_int8(product.codes))
    return packed, rewriting.buffer(f"{name}_code_sums", sums)


def fp8(rewriting: Rewriting, layer: Fp8Layer) -> None:
    name = layer.node.name
    with rewriting.graph.inserting_before(layer.node):
        made = rewriting.call(
            fp8_product,
            layer.source_now,
            rewriting.buffer(f"{name}_packed", packed_fp8(layer.codes)),
            rewriting.buffer(f"{name}_scale", layer.scale),
            layer.bias,
            layer.per_token,
        )
    rewriting.replace(layer.node, made)
