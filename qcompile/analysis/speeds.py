"""How fast a machine does what a run consists of, and how long a given amount takes there."""

from collections.abc import Sequence
from math import exp, log
from typing import Literal, TypeAlias

from qcompile.policy.document import Frozen

Product: TypeAlias = Literal["linear", "conv", "depthwise", "attention"]
Pass: TypeAlias = Literal[
    "plain", "function", "norm", "quantize", "drop", "compare", "check", "save"
]
"""``drop`` is to quantize a part, drawn by chance."""
Solver: TypeAlias = Literal["ridge", "optq", "descent", "refit"]
Pace: TypeAlias = Literal["forward", "training", "training_bf16"]
"""Forward alone, or with the gradients, and in which type products are computed then."""


class Rate(Frozen):
    """Seconds are ``per_call * calls + per_item * items``."""

    per_call: float
    per_item: float

    def seconds(self, items: float, calls: float = 1) -> float:
        return self.per_call * calls + self.per_item * items


class ProductSpeed(Frozen):
    """Seconds for one multiply-accumulate of layers of about ``width`` inputs and outputs.

    Of ``attention``, ``width`` is the number of tokens.
    """

    kind: Product
    width: int
    forward: float
    training: float
    """Forward and backward, to the input and to the weight."""
    training_bf16: float
    """The same in bfloat16, between inputs and results that are float32."""


class PassSpeed(Frozen):
    """Seconds for one element of work that goes over a tensor; ``training``: with the gradient."""

    kind: Pass
    elements: int
    """Of the tensor: large ones are in no cache."""
    forward: float
    training: float | None
    """``None``: not measured at this size, or nothing is learned there."""


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
    levels: Rate
    """The same on the levels of a format that is none of integers."""
    step: Rate
    """One step on the gates of one layer; items are weights."""
    new: float
    """Of the first write to memory that the system gives, for each four bytes."""
    commit: float
    """Of writing one unit, whatever its size."""

    def product(self, kind: Product, width: int, pace: Pace = "forward") -> float:
        """Seconds for a multiply-accumulate, between the widths that were measured."""
        known = sorted((one for one in self.products if one.kind == kind), key=lambda p: p.width)
        return _between([(p.width, _at(p, pace)) for p in known], width)

    def over(self, kind: Pass, elements: float, *, training: bool = False) -> float:
        """Seconds for an element of a pass over tensors of so many, between what was measured."""
        known = sorted((p for p in self.passes if p.kind == kind), key=lambda p: p.elements)
        rates = [(p.elements, p.training if training else p.forward) for p in known]
        return _between([(size, rate) for size, rate in rates if rate is not None], elements)

    def solver(self, kind: Solver) -> SolverSpeed:
        return next(one for one in self.solvers if one.kind == kind)


def _at(speed: ProductSpeed, pace: Pace) -> float:
    match pace:
        case "forward":
            return speed.forward
        case "training":
            return speed.training
        case "training_bf16":
            return speed.training_bf16


def _between(points: Sequence[tuple[int, float]], at: float) -> float:
    """Linear on logarithmic axes; beyond the ends as at the ends."""
    lower = max((p for p in points if p[0] <= at), default=points[0])
    upper = min((p for p in points if p[0] >= at), default=points[-1])
    if lower[0] == upper[0]:
        return lower[1]
    share = (log(at) - log(lower[0])) / (log(upper[0]) - log(lower[0]))
    return exp((1 - share) * log(lower[1]) + share * log(upper[1]))
