"""Which part of a photograph is crop number ``i``. Loads no torch."""

from dataclasses import dataclass
from random import Random
from typing import TypeAlias

Box: TypeAlias = tuple[float, float, float, float]
"""Left, upper, right, lower; in pixels of the photograph."""

CENTRE = 224 / 256
"""Share of the shorter side that the usual centre crop keeps."""
SMALLEST = 0.4
"""The same of a random crop, at least."""


@dataclass(frozen=True, slots=True)
class Crop:
    """Crop ``number`` of a list that goes round and round through ``photos`` photographs."""

    number: int
    photos: int
    seed: str
    """Other lists have other crops."""
    first_is_centre: bool
    """The first round has the usual crop of each photograph."""

    @property
    def photo(self) -> int:
        return self.number % self.photos

    def box(self, width: int, height: int) -> Box:
        """A square inside the photograph."""
        shorter = min(width, height)
        if self.first_is_centre and self.number < self.photos:
            side = CENTRE * shorter
            left, upper = (width - side) / 2, (height - side) / 2
        else:
            draw = self._draw("box")
            side = draw.uniform(SMALLEST, 1) * shorter
            left, upper = draw.uniform(0, width - side), draw.uniform(0, height - side)
        return left, upper, left + side, upper + side

    @property
    def is_mirrored(self) -> bool:
        plain = self.first_is_centre and self.number < self.photos
        return not plain and self._draw("mirror").random() < 0.5

    def _draw(self, what: str) -> Random:
        return Random(f"{self.seed} {self.number} {what}")
