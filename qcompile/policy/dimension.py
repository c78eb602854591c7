"""What a number counts, and the units that can be attached to it."""

import math
from enum import Enum

from qcompile.diagnostics.frozen import frozen


class Dimension(Enum):
    """The value is how a diagnostic calls it."""

    NUMBER = "a plain number"
    BYTES = "a size"
    PERCENT = "a percentage"
    DECIBEL = "a level in decibels"
    TIME = "a duration"
    LIST = "a list"


@frozen
class Unit:
    name: str
    dimension: Dimension
    factor: int


UNITS: tuple[Unit, ...] = (
    Unit("kB", Dimension.BYTES, 10**3),
    Unit("MB", Dimension.BYTES, 10**6),
    Unit("GB", Dimension.BYTES, 10**9),
    Unit("KiB", Dimension.BYTES, 2**10),
    Unit("MiB", Dimension.BYTES, 2**20),
    Unit("GiB", Dimension.BYTES, 2**30),
    Unit("k", Dimension.NUMBER, 10**3),
    Unit("M", Dimension.NUMBER, 10**6),
    Unit("G", Dimension.NUMBER, 10**9),
    Unit("%", Dimension.PERCENT, 1),
    Unit("dB", Dimension.DECIBEL, 1),
    Unit("s", Dimension.TIME, 1),
    Unit("min", Dimension.TIME, 60),
    Unit("h", Dimension.TIME, 3600),
)


def unit(name: str) -> Unit | None:
    return next((item for item in UNITS if item.name == name), None)


def in_base_units(value: int | float, of: Unit) -> int | float:
    """Bytes, seconds, percent, decibels, or a count; a whole result is an ``int``."""
    scaled = value * of.factor
    return int(scaled) if math.isfinite(scaled) and scaled == int(scaled) else scaled
