"""The limits of a budget that a choice can be held to, as rows of a linear program."""

from collections.abc import Iterator
from typing import Literal

from qcompile.diagnostics.frozen import frozen
from qcompile.policy.claim import (
    AllClaims,
    Claim,
    CompareFigures,
    Figure,
    Predicted,
    SlotBits,
    Total,
)
from qcompile.policy.recipe import Budget, Limit
from qcompile.policy.selector import Constant


@frozen
class ChoiceLimit:
    """At most ``most`` of what each choice adds to; less than that where it ``is_strict``."""

    figure: Literal["size", "avg_bits", "loss_increase"]
    """Bytes of all tensors, mean bits of quantized weights, or nats that the choice costs."""
    most: float
    is_strict: bool
    row: Limit
    """Of the budget, perhaps one of several limits in it."""


def choice_limits(budget: Budget) -> tuple[ChoiceLimit, ...]:
    """Rows such as ``size <= 60MB`` and ``loss_increase <= 0.01``; some may be joined by ``and``.

    What else a budget says is looked at when the choice is made.
    """
    return tuple(limit for row in budget.limits for limit in limits_of(row))


def limits_of(row: Limit) -> tuple[ChoiceLimit, ...]:
    return tuple(_of(row, row.claim))


def _of(row: Limit, claim: Claim) -> Iterator[ChoiceLimit]:
    match claim:
        case AllClaims(items):
            for item in items:
                yield from _of(row, item)
        case CompareFigures("<=" | "<" as op, figure, Constant(value)):
            yield from _at_most(row, figure, value, is_strict=op == "<")
        case CompareFigures(">=" | ">" as op, Constant(value), figure):
            yield from _at_most(row, figure, value, is_strict=op == ">")
        case _:
            pass


def _at_most(
    row: Limit, figure: Figure, value: object, *, is_strict: bool
) -> Iterator[ChoiceLimit]:
    if not isinstance(value, int | float):
        return
    match figure:
        case Total("size"):
            yield ChoiceLimit("size", value, is_strict, row)
        case SlotBits("avg_bits", "weight"):
            yield ChoiceLimit("avg_bits", value, is_strict, row)
        case Predicted(which):
            yield ChoiceLimit(which, value, is_strict, row)
        case _:
            pass
