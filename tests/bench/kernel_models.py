"""What the kernel benchmark times: models by name, each with its input for a batch."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from qcompile.zoo.catalogue import zoo_model
from tests.bench.hard_models import efficientnet, vit

WIDTHS = (64, 128, 256, 512)
SEED = 20_260


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut (arXiv 1512.03385)."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.first = _conv(inside, outside, 3, stride)
        self.relu = nn.ReLU()
        self.second = _conv(outside, outside, 3)
        same = stride == 1 and inside == outside
        self.shortcut = nn.Identity() if same else _conv(inside, outside, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.second(self.relu(self.first(x))) + self.shortcut(x))


def _conv(inside: int, outside: int, kernel: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inside, outside, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outside))


def resnet18() -> nn.Module:
    """ResNet-18 in shape, with random weights."""
    torch.manual_seed(SEED)
    stem = [_conv(3, WIDTHS[0], 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    blocks: list[nn.Module] = []
    inside = WIDTHS[0]
    for number, width in enumerate(WIDTHS):
        blocks += [Block(inside, width, 2 if number else 1), Block(width, width, 1)]
        inside = width
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, 1000)]
    return nn.Sequential(*stem, *blocks, *head).eval()


def linear() -> nn.Module:
    torch.manual_seed(SEED)
    return nn.Sequential(nn.Linear(2048, 2048)).eval()


class DecoderProducts(nn.Module):
    """The linear layers of a decoder layer of SmolLM2-135M, without its attention."""

    def __init__(self) -> None:
        super().__init__()
        width, narrow, inside = 576, 192, 1536
        self.q, self.o = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.k, self.v = (nn.Linear(width, narrow, bias=False) for _ in range(2))
        self.gate, self.up = (nn.Linear(width, inside, bias=False) for _ in range(2))
        self.down = nn.Linear(inside, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        kept = torch.cat((self.k(x), self.v(x)), -1)
        x = self.o(self.q(x))
        x = self.down(nn.functional.silu(self.gate(x)) * self.up(x))
        return torch.cat((x, kept), -1)


def decoder_products() -> nn.Module:
    torch.manual_seed(SEED)
    return DecoderProducts().eval()


@dataclass(frozen=True, slots=True)
class BenchModel:
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    """Of one sample."""
    shortcut: str = ""
    """The slot of an addition that is put into codes: that of the operand from further back."""

    def batch(self, rows: int, seed: int = SEED) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(rows, *self.shape, generator=generator)


def _resnet20() -> nn.Module:
    known = zoo_model("resnet20")
    assert known is not None
    model = known.build()
    model.load_state_dict(load_file(known.weights))
    return model.eval()


MODELS: dict[str, BenchModel] = {
    "ResNet-20": BenchModel(_resnet20, (1, 28, 28)),
    "ResNet-20, 8-bit shortcuts": BenchModel(_resnet20, (1, 28, 28), "act2"),
    "ResNet-18 shape": BenchModel(resnet18, (3, 224, 224)),
    "ResNet-18 shape, 8-bit shortcuts": BenchModel(resnet18, (3, 224, 224), "act2"),
    "EfficientNet-Lite0": BenchModel(efficientnet, (3, 112, 112)),
    "EfficientNet-Lite0, 8-bit shortcuts": BenchModel(efficientnet, (3, 112, 112), "act2"),
    "ViT-S/14": BenchModel(vit, (3, 98, 98)),
    "linear 2048x2048": BenchModel(linear, (2048,)),
    "SmolLM2 layer": BenchModel(decoder_products, (576,)),
}
