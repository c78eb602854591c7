"""Linear layers as products on tensor cores."""

from dataclasses import astuple

import torch

from qcompile.compat.tensor_cores import packed_fp8, packed_int8
from qcompile.emit.lower.fp8_layer import Fp8Layer
from qcompile.emit.lower.layer import Layer
from qcompile.emit.lower.product import product_of
from qcompile.emit.lower.rewriting import Rewriting
from qcompile.emit.lower.tensor_core_kernels import fp8_product, int8_product


def int8(rewriting: Rewriting, layer: Layer) -> None:
    product, name = product_of(layer), layer.node.name
    assert layer.quantizer is not None, "limits of the kernel"
    sums = product.codes.sum(1, dtype=torch.int32)
    with rewriting.graph.inserting_before(layer.node):
        offset = None
        if product.offset is not None:
            whole = product.offset.to(torch.int32)
            offset = rewriting.buffer(f"{name}_offset", whole)
        made = rewriting.call(
            int8_product,
            layer.source_now,
            rewriting.buffer(f"{name}_packed", packed_int8(product.codes)),
            rewriting.buffer(f"{name}_sums", sums),
            offset,
            rewriting.buffer(f"{name}_scale", product.scale),
            layer.bias,
            astuple(layer.quantizer),
        )
    rewriting.replace(layer.node, made)


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
