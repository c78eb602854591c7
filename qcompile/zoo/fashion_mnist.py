"""The part of Fashion-MNIST that ships with the project (arXiv 1708.07747; see NOTICE)."""

import numpy as np
import torch
from torch import Tensor

from qcompile.zoo.resource import resource

MEAN = 0.2860
STD = 0.3530
"""Of the training split, after division by 255; what both checkpoints were trained with."""


def calibration() -> Tensor:
    """1,024 normalised images of the training split, ``[1024, 1, 28, 28]``."""
    return _normalised(_array("calib_images"))


def test() -> tuple[Tensor, Tensor]:
    """2,000 normalised images of the test split and their labels, ``int64[2000]``."""
    return _normalised(_array("test_images")), _array("test_labels").long()


def _array(name: str) -> Tensor:
    with np.load(resource("fashion_mnist.npz"), allow_pickle=False) as archive:
        return torch.from_numpy(archive[name])


def _normalised(images: Tensor) -> Tensor:
    return (images.unsqueeze(1).float() / 255 - MEAN) / STD
