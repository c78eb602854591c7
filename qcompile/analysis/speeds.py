"""How fast a machine does what a run consists of, and how long a given amount takes there."""

from collections.abc import Sequence
from math import exp, log
from typing import Literal, TypeAlias

from qcompile.policy.document import Frozen

Product: TypeAlias = Literal["linear", "conv", "depthwise"]
Pass: TypeAlias = Literal["plain", "function", "norm", "quantize", "compare", "check", "save"]
Solver: TypeAlias = Literal["ridge", "optq", "descent"]


class Rate(Frozen):
    """Seconds are ``per_call * calls + per_item * items``."""

    per_call: float
    per_item: float

    def seconds(self, items: float, calls: float = 1) -> float:
        return self.per_call * calls + self.per_item * items


class ProductSpeed(Frozen):
    """Seconds for one multiply-accumulate of layers of about ``width`` inputs and outputs."""

    kind: Product
    width: int
    forward: float
    training: float
    """Forward and backward, to the input and to the weight."""


class PassSpeed(Frozen):
    """Seconds for one element of work that goes over a tensor; ``training``: with the gradient."""

    kind: Pass
    forward: float
    training: float


class SolverSpeed(Frozen):
    """Seconds are ``k * column + k^2 rows * product + k^3 * cube``, for ``k`` inputs."""

    kind: Solver
    column: float
    product: float
    cube: float

    def seconds(self, k: int, rows: float) -> float:
        return k * self.column + k * k * rows * self.product + k**3 * self.cube


class Speeds(Frozen):
    machine: dict[str, str]
    """What the figures hold for: processor, threads, version of torch."""
    products: tuple[ProductSpeed, ...]
    passes: tuple[PassSpeed, ...]
    solvers: tuple[SolverSpeed, ...]
    call: float
    """Of evaluating one node, without its arithmetic."""
    search: Rate
    """One candidate of a range search; items are elements."""
    step: Rate
    """One step on the gates of one layer; items are weights."""
    commit: float
    """Of writing one unit, whatever its size."""

    def product(self, kind: Product, width: int, *, training: bool = False) -> float:
        """Seconds for a multiply-accumulate, between the widths that were measured."""
        known = sorted((one for one in self.products if one.kind == kind), key=lambda p: p.width)
        return _between([(p.width, p.training if training else p.forward) for p in known], width)

    def over(self, kind: Pass, *, training: bool = False) -> float:
        """Seconds for an element of a pass."""
        found = next(one for one in self.passes if one.kind == kind)
        return found.training if training else found.forward

    def solver(self, kind: Solver) -> SolverSpeed:
        return next(one for one in self.solvers if one.kind == kind)


def _between(points: Sequence[tuple[int, float]], at: int) -> float:
    """Linear on logarithmic axes; beyond the ends as at the ends."""
    lower = max((p for p in points if p[0] <= at), default=points[0])
    upper = min((p for p in points if p[0] >= at), default=points[-1])
    if lower[0] == upper[0]:
        return lower[1]
    share = (log(at) - log(lower[0])) / (log(upper[0]) - log(lower[0]))
    return exp((1 - share) * log(lower[1]) + share * log(upper[1]))
