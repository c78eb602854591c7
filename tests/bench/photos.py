"""Natural images for EfficientNet-Lite0 with its ImageNet head: square crops, 224 px.

The photographs are read where packages have put them and are not copied: those of the test are
under ImageNet's own terms.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from tests.bench.crops import Crop
from tests.bench.photo_files import calibration_files, test_files

SIDE = 224
KEPT = 512
"""Pixels of the shorter side of a photograph in memory, at most."""
CALIBRATION_CROPS = 2_048
"""To draw the samples from."""
TEST_CROPS = 500
"""The first 20 are the centre crops."""


class Calibration(Dataset[tuple[Tensor, Tensor]]):
    """With the number of the photograph: crops of one are no news to each other."""

    def __init__(self) -> None:
        self._files = calibration_files()

    def __len__(self) -> int:
        return CALIBRATION_CROPS

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        crop = Crop(index, len(self._files), "calibration", first_is_centre=False)
        return pixels(self._files[crop.photo], crop), torch.tensor(crop.photo)


class Test(Dataset[tuple[Tensor, Tensor]]):
    """With the label of the whole photograph, which a small crop need not show."""

    def __init__(self) -> None:
        self._files = test_files()

    def __len__(self) -> int:
        return TEST_CROPS

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        crop = Crop(index, len(self._files), "test", first_is_centre=True)
        file, label = self._files[crop.photo]
        return pixels(file, crop), torch.tensor(label)


def calib_photos() -> Calibration:
    return Calibration()


def test_photos() -> Test:
    return Test()


def pixels(file: Path, crop: Crop) -> Tensor:
    """``[3, 224, 224]``, by the constants of the TensorFlow original."""
    photo = _photo(file)
    box = crop.box(*photo.size)
    image = photo.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box)
    if crop.is_mirrored:
        image = ImageOps.mirror(image)
    values = torch.from_numpy(np.asarray(image).copy())
    return (values.permute(2, 0, 1).float() - 127) / 128


@lru_cache(maxsize=64)
def _photo(file: Path) -> Image.Image:
    with Image.open(file) as stored:
        stored.draft("RGB", (2 * KEPT, 2 * KEPT))
        image = ImageOps.exif_transpose(stored).convert("RGB")
    share = KEPT / min(image.size)
    return image if share >= 1 else ImageOps.scale(image, share, Image.Resampling.BICUBIC)
