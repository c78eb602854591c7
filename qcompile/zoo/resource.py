"""Where the binary files of this package lie."""

from importlib.resources import files
from pathlib import Path


def resource(name: str) -> Path:
    """A real file: weights are read lazily, so the package must not be imported from an archive."""
    return Path(str(files("qcompile.zoo").joinpath(name)))
