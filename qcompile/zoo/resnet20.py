"""ResNet-20 for 28 x 28 grey images (He et al., arXiv 1512.03385, section 4.2)."""

import torch
from torch import Tensor, nn

WIDTHS = (16, 32, 64)
BLOCKS_PER_STAGE = 3
CLASSES = 10


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut, which is a 1 x 1 convolution where shapes change."""

    def __init__(self, width_in: int, width_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width_out)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width_out, width_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width_out)
        self.relu2 = nn.ReLU()
        self.down = _shortcut(width_in, width_out, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu2(y + self.down(x))


class ResNet20(nn.Module):
    """``[batch, 1, 28, 28]`` to ``[batch, 10]`` logits."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, WIDTHS[0], 3, padding=1, bias=False), nn.BatchNorm2d(WIDTHS[0]), nn.ReLU()
        )
        self.layers = nn.Sequential(*_blocks())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(WIDTHS[-1], CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        features = self.pool(self.layers(self.stem(x)))
        return self.fc(torch.flatten(features, 1))


def _shortcut(width_in: int, width_out: int, stride: int) -> nn.Module:
    if stride == 1 and width_in == width_out:
        return nn.Identity()
    return nn.Sequential(
        nn.Conv2d(width_in, width_out, 1, stride, bias=False), nn.BatchNorm2d(width_out)
    )


def _blocks() -> list[BasicBlock]:
    """Every stage but the first halves the image in its first block."""
    blocks: list[BasicBlock] = []
    width_in = WIDTHS[0]
    for stage, width in enumerate(WIDTHS):
        for position in range(BLOCKS_PER_STAGE):
            stride = 2 if stage > 0 and position == 0 else 1
            blocks.append(BasicBlock(width_in, width, stride))
            width_in = width
    return blocks
