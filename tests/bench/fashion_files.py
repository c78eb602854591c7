"""Where Fashion-MNIST (arXiv 1708.07747) lies. Loads no torch."""

from pathlib import Path

FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""Of the Debian package ``dataset-fashion-mnist``, which ``make bench-data`` installs."""

FULL = "Fashion-MNIST, 60,000 + 10,000 images"
SUBSET = "Fashion-MNIST, the 1,024 + 2,000 images that ship with qcompile"


def images_file(split: str) -> Path:
    """``split`` is ``train`` or ``t10k``."""
    return FOLDER / f"{split}-images-idx3-ubyte.gz"


def labels_file(split: str) -> Path:
    return FOLDER / f"{split}-labels-idx1-ubyte.gz"


def is_full() -> bool:
    files = [f(split) for f in (images_file, labels_file) for split in ("train", "t10k")]
    return all(file.is_file() for file in files)


def data_name() -> str:
    """What a row says of its data."""
    return FULL if is_full() else SUBSET


def shipped_name() -> str:
    """Of the models that take the images that ship with qcompile, whatever is installed."""
    return SUBSET
