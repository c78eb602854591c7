"""How pictures become what a model takes: ``images`` of the statement ``model``."""

from typing import Literal, TypeAlias

from qcompile.diagnostics.frozen import frozen
from qcompile.methods.bounds import refuse_illegal

Interpolation: TypeAlias = Literal["nearest", "bilinear", "bicubic", "lanczos"]


CHANNELS = (1, 3)
LEAST = 1e-30
"""Of what is divided by: far above where float32 has only 0."""


@frozen
class Images:
    """In this order: resize, crop in the middle, divide by 255, less ``mean``, by ``std``."""

    mean: tuple[float, ...]
    """One number for each channel: three of a picture in colours, one of a grey one."""
    std: tuple[float, ...]
    resize: int | tuple[int, int] | None = None
    """Of the shorter side, or height and width; ``None``: pictures keep their size."""
    crop: tuple[int, int] | None = None
    """Height and width; ``None``: all of the picture."""
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        sizes = (*_sides(self.resize), *_sides(self.crop))
        refuse_illegal(
            mean=len(self.mean) in CHANNELS,
            std=len(self.std) == len(self.mean) and min(self.std) >= LEAST,
            resize=self.crop is not None or isinstance(self.resize, tuple),
            crop=min(sizes, default=0) > 0,
        )

    @property
    def channels(self) -> int:
        return len(self.mean)


def _sides(size: int | tuple[int, int] | None) -> tuple[int, ...]:
    return () if size is None else (size,) if isinstance(size, int) else size
