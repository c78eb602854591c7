"""A small pre-norm vision transformer (Dosovitskiy et al., arXiv 2010.11929)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

IMAGE = 28
PATCH = 7
WIDTH = 96
DEPTH = 6
HEADS = 4
MLP_WIDTH = 192
CLASSES = 10


class Attention(nn.Module):
    """Self-attention with one fused projection for query, key and value."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, HEADS, width // HEADS)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).reshape(batch, tokens, width))


class Block(nn.Module):
    """Attention and a two-layer perceptron, each after a norm and around a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.attn = Attention()
        self.norm2 = nn.LayerNorm(WIDTH)
        self.fc1 = nn.Linear(WIDTH, MLP_WIDTH)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(MLP_WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.fc2(self.act(self.fc1(self.norm2(x))))


class ViTSmall(nn.Module):
    """``[batch, 1, 28, 28]`` to ``[batch, 10]`` logits, read from the class token."""

    def __init__(self) -> None:
        super().__init__()
        tokens = (IMAGE // PATCH) ** 2 + 1
        self.patch_embed = nn.Conv2d(1, WIDTH, PATCH, PATCH)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, WIDTH))
        self.blocks = nn.Sequential(*[Block() for _ in range(DEPTH)])
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patch_embed(x).flatten(2).transpose(1, 2)
        first = self.cls_token.expand(x.shape[0], -1, -1)
        x = torch.cat([first, patches], 1) + self.pos_embed
        return self.head(self.norm(self.blocks(x))[:, 0])
