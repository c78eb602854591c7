"""What ships with the project under ``zoo:NAME``."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from qcompile.zoo import fashion_mnist
from qcompile.zoo.resnet20 import ResNet20
from qcompile.zoo.resource import resource
from qcompile.zoo.vit_small import ViTSmall


@dataclass(frozen=True, slots=True)
class ZooModel:
    """``input_shape`` is that of one float32 sample, without the batch; ``data`` fits it."""

    name: str
    build: Callable[[], nn.Module]
    weights_file: str
    input_shape: tuple[int, ...]
    data: str
    """``<data>/calib`` and ``<data>/test`` are in ``DATA``."""

    @property
    def weights(self) -> Path:
        return resource(self.weights_file)

    def example_inputs(self) -> tuple[Tensor, ...]:
        """Two samples of noise, always the same; a batch of one is a special case to torch."""
        noise = torch.Generator().manual_seed(0)
        return (torch.randn(2, *self.input_shape, generator=noise),)


@dataclass(frozen=True, slots=True)
class ZooData:
    """``labels`` names the last tensor if it is not for the model."""

    name: str
    load: Callable[[], Tensor | tuple[Tensor, ...]]
    labels: str | None = None


MODELS: tuple[ZooModel, ...] = (
    ZooModel("resnet20", ResNet20, "resnet20.safetensors", (1, 28, 28), "fashion_mnist"),
    ZooModel("vit_small", ViTSmall, "vit_small.safetensors", (1, 28, 28), "fashion_mnist"),
)

DATA: tuple[ZooData, ...] = (
    ZooData("fashion_mnist/calib", fashion_mnist.calibration),
    ZooData("fashion_mnist/test", fashion_mnist.test, labels="label"),
)


def zoo_model(name: str) -> ZooModel | None:
    return next((item for item in MODELS if item.name == name), None)


def zoo_data(name: str) -> ZooData | None:
    return next((item for item in DATA if item.name == name), None)
