"""Closed intervals of real numbers: the abstract domain of the range analysis.

Every operation returns an interval that holds each result for operands inside the given ones.
Bounds are computed in float64 and widened by ``SLACK`` where the model itself would round.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf, isfinite

SLACK = 2.0**-7
"""Relative widening of computed bounds: above the rounding of bfloat16 in one operation."""


@dataclass(frozen=True, slots=True)
class Interval:
    low: float = -inf
    high: float = inf

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"no numbers from {self.low} to {self.high}")

    def __add__(self, other: "Interval") -> "Interval":
        return widened(self.low + other.low, self.high + other.high)

    def __sub__(self, other: "Interval") -> "Interval":
        return self + -other

    def __neg__(self) -> "Interval":
        return Interval(-self.high, -self.low)

    def __mul__(self, other: "Interval") -> "Interval":
        ends = [_product(a, b) for a in (self.low, self.high) for b in (other.low, other.high)]
        return widened(min(ends), max(ends))

    def __truediv__(self, other: "Interval") -> "Interval":
        """Everything where the divisor may be zero."""
        if other.low <= 0 <= other.high:
            return ANYTHING
        return self * Interval(1 / other.high, 1 / other.low)

    def __or__(self, other: "Interval") -> "Interval":
        """The smallest interval that holds both."""
        return Interval(min(self.low, other.low), max(self.high, other.high))

    def clamped(self, low: float = -inf, high: float = inf) -> "Interval":
        return Interval(min(max(self.low, low), high), min(max(self.high, low), high))

    @property
    def magnitude(self) -> "Interval":
        """Of ``|x|``."""
        if self.low <= 0 <= self.high:
            return Interval(0.0, max(-self.low, self.high))
        return Interval(min(abs(self.low), abs(self.high)), max(abs(self.low), abs(self.high)))

    @property
    def square(self) -> "Interval":
        size = self.magnitude
        return widened(size.low**2, _product(size.high, size.high), floor=0.0)

    @property
    def is_known(self) -> bool:
        return self != ANYTHING


ANYTHING = Interval()
UNIT = Interval(0.0, 1.0)


def hull(intervals: Iterable[Interval]) -> Interval:
    """The smallest interval around all; around none, everything."""
    found = list(intervals)
    if not found:
        return ANYTHING
    return Interval(min(i.low for i in found), max(i.high for i in found))


def widened(low: float, high: float, *, floor: float = -inf) -> Interval:
    """From ``low`` to ``high``, each moved outwards by the slack; a bound of zero is exact.

    Rounding never changes a sign, so that a sum of two numbers that are not negative is not either.
    """
    low = low - abs(low) * SLACK if isfinite(low) else -inf
    high = high + abs(high) * SLACK if isfinite(high) else inf
    return Interval(max(low, floor), high)


def _product(a: float, b: float) -> float:
    """Zero times a bound that does not exist is zero: every number below it is finite."""
    return 0.0 if a == 0 or b == 0 else a * b
