"""Fashion-MNIST as the hard models take it: enlarged, in three channels, normalised their way.

Calibration images are of the training split only. Without the full data set, the images that ship
with qcompile stand in.
"""

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset, TensorDataset

from qcompile.zoo import fashion_mnist
from qcompile.zoo.resnet20 import ResNet20
from qcompile.zoo.resource import resource
from tests.bench.fashion_files import images_file, is_full, labels_file

EFFICIENTNET_SIDE = 112
VIT_SIDE = 98
"""Pixels; the heads of the models were trained at these sizes."""

Split: TypeAlias = Literal["train", "t10k"]

IMAGES_HEADER = 16
LABELS_HEADER = 8
"""Bytes before the data of an IDX file."""

IMAGENET_MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
IMAGENET_STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


@dataclass(frozen=True, slots=True)
class Pictures:
    """``images`` are ``uint8[n, 28, 28]``, ``labels`` ``int64[n]``."""

    images: Tensor
    labels: Tensor


class Unlabelled(Dataset[Tensor]):
    """One prepared image a sample: a whole split would take gigabytes."""

    def __init__(self, pictures: Pictures, prepare: Callable[[Tensor], Tensor]) -> None:
        self._pictures = pictures
        self._prepare = prepare

    def __len__(self) -> int:
        return len(self._pictures.labels)

    def __getitem__(self, index: int) -> Tensor:
        return self._prepare(self._pictures.images[index])


class Labelled(Dataset[tuple[Tensor, Tensor]]):
    """The same with the label behind the image."""

    def __init__(self, pictures: Pictures, prepare: Callable[[Tensor], Tensor]) -> None:
        self._images = Unlabelled(pictures, prepare)
        self._labels = pictures.labels

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self._images[index], self._labels[index]


def calib_eff() -> Unlabelled:
    return Unlabelled(pictures("train"), for_efficientnet)


def test_eff() -> Labelled:
    return Labelled(pictures("t10k"), for_efficientnet)


def calib_vit() -> Unlabelled:
    return Unlabelled(pictures("train"), for_vit)


def test_vit() -> Labelled:
    return Labelled(pictures("t10k"), for_vit)


def resnet20() -> nn.Module:
    """The float model that ships with qcompile."""
    model = ResNet20()
    model.load_state_dict(load_file(resource("resnet20.safetensors")))
    return model.eval()


def test_resnet20() -> TensorDataset:
    return TensorDataset(*fashion_mnist.test())


def for_efficientnet(image: Tensor) -> Tensor:
    """``[3, 112, 112]``, by the constants of the TensorFlow original."""
    return (_enlarged(image, EFFICIENTNET_SIDE) * 255 - 127) / 128


def for_vit(image: Tensor) -> Tensor:
    """``[3, 98, 98]``."""
    return (_enlarged(image, VIT_SIDE) - IMAGENET_MEAN) / IMAGENET_STD


def pictures(split: Split) -> Pictures:
    """The split as it is on this machine."""
    return _full(split) if is_full() else _subset(split)


def _enlarged(image: Tensor, side: int) -> Tensor:
    """Three equal channels in ``[0, 1]``."""
    grey = image.float()[None, None] / 255
    large = functional.interpolate(grey, (side, side), mode="bilinear", align_corners=False)
    return large[0].expand(3, -1, -1)


def _full(split: Split) -> Pictures:
    images = _idx(images_file(split), IMAGES_HEADER).reshape(-1, 28, 28)
    labels = _idx(labels_file(split), LABELS_HEADER)
    return Pictures(torch.from_numpy(images), torch.from_numpy(labels).long())


def _subset(split: Split) -> Pictures:
    name = {"train": "calib", "t10k": "test"}[split]
    with np.load(resource("fashion_mnist.npz"), allow_pickle=False) as archive:
        images, labels = archive[f"{name}_images"], archive[f"{name}_labels"]
    return Pictures(torch.from_numpy(images), torch.from_numpy(labels).long())


def _idx(file: Path, header: int) -> np.ndarray:
    with gzip.open(file) as stream:
        return np.frombuffer(stream.read(), np.uint8, offset=header).copy()
