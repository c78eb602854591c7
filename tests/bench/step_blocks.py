"""The two blocks of ``make bench-steps``, with random weights and inputs, each in a model alone."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn

from tests.bench.vit_s14 import Block as TransformerBlock

BATCH, CHANNELS, SIDE = 32, 64, 56
TOKENS, WIDTH = 197, 384


class ResidualBlock(nn.Module):
    """The first stage of ResNet-18, batch norms folded."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.conv2 = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x + self.conv2(self.act(self.conv1(x))))


class Alone(nn.Module):
    """A model of one block."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.Sequential(block)

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)


def residual() -> nn.Module:
    return _drawn(ResidualBlock())


def transformer() -> nn.Module:
    return _drawn(TransformerBlock())


def residual_inputs() -> Tensor:
    return inputs("residual")


def transformer_inputs() -> Tensor:
    return inputs("transformer")


def inputs(factory: str) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (CHANNELS, SIDE, SIDE) if factory == "residual" else (TOKENS, WIDTH)
    return torch.randn(BATCH, *shape, generator=generator)


def _drawn(block: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in block.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() > 1:
                parameter.copy_(drawn / parameter[0].numel() ** 0.5)
            elif name.endswith("bias"):
                parameter.copy_(drawn / 10)
    return Alone(block)


BLOCKS: Mapping[str, Callable[[], nn.Module]] = MappingProxyType(
    {"residual": residual, "transformer": transformer}
)
