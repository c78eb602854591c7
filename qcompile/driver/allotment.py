"""What the integer programs of a budget are asked: one rung of each ladder, by loss or by bytes."""

from collections.abc import Sequence
from math import ceil

from qcompile.analysis.allocation import Allocation, Option, allocate
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.diagnostics.failure import CompileError
from qcompile.diagnostics.frozen import frozen
from qcompile.driver.bind import Bound
from qcompile.driver.candidates import Group, room
from qcompile.policy.assertion import Failure, over_budget
from qcompile.policy.choice_limits import ChoiceLimit, choice_limits
from qcompile.policy.recipe import Budget

TIE = 1e-9
"""Nats that one rung more is worth where the output does not tell the rungs apart."""
LOSS_UNITS = 10**9
"""Whole units that a limit on the loss is cut into; what a rung costs is rounded up to one."""

Losses = Sequence[Sequence[float]]
"""In nats, by group and rung."""


@frozen
class Allotment:
    taken: tuple[int, ...]
    """Which rung of each group."""
    bound: float
    """No choice within the budget has less of what is made small: nats, or bytes of the groups."""


def allot(budget: Budget, bound: Bound, groups: Sequence[Group], losses: Losses) -> Allotment:
    """The least loss within the limits, or the fewest bytes, and of these the least loss.

    A group whose losses are all zero was not measured: it gets the most bits that are left. Raises
    ``CompileError`` (QR601) where nothing keeps the limits.
    """
    limits = choice_limits(budget)
    beyond = [_out_of_reach(limit, losses) for limit in limits if limit.figure == "loss_increase"]
    if any(beyond):
        raise CompileError([problem for problem in beyond if problem is not None])
    rooms = [_room(limit, bound, groups) for limit in limits]
    costs = [
        [[_cost(limit, group, nats, rung) for limit in limits] for rung in range(len(nats))]
        for group, nats in zip(groups, losses, strict=True)
    ]
    by_loss = [
        [nats if any(row) else -TIE * rung for rung, nats in enumerate(row)] for row in losses
    ]
    if not budget.goes_by_size:
        found = _solved(budget, by_loss, costs, rooms)
        return Allotment(found.taken, _least(losses, found))
    sizes = [[group.bytes_on(rung) for rung in range(len(group.ladder))] for group in groups]
    made_small = [
        [size if any(row) else -size for size in of_group]
        for of_group, row in zip(sizes, losses, strict=True)
    ]
    smallest = _solved(budget, made_small, costs, rooms)
    counted = [
        [size if any(row) else 0 for size in of_group]
        for of_group, row in zip(sizes, losses, strict=True)
    ]
    fewest = sum(of_group[at] for of_group, at in zip(counted, smallest.taken, strict=True))
    with_size = [
        [[*row, size] for row, size in zip(rows, of_group, strict=True)]
        for rows, of_group in zip(costs, counted, strict=True)
    ]
    found = _solved(budget, by_loss, with_size, [*rooms, fewest])
    return Allotment(found.taken, _least(sizes, smallest))


def _solved(
    budget: Budget,
    values: Sequence[Sequence[float]],
    costs: Sequence[Sequence[Sequence[int]]],
    rooms: Sequence[int],
) -> Allocation:
    options = [
        [Option(value, tuple(cost)) for value, cost in zip(*pair, strict=True)]
        for pair in zip(values, costs, strict=True)
    ]
    found = allocate(options, rooms)
    if found is None:
        raise CompileError([no_choice(budget)])
    return found


def _least(values: Sequence[Sequence[float]], found: Allocation) -> float:
    """What is proved of their sum: all of it, unless the search ended before."""
    total = sum(row[at] for row, at in zip(values, found.taken, strict=True))
    return max(total - (found.loss - found.bound), 0.0)


def _cost(limit: ChoiceLimit, group: Group, nats: Sequence[float], rung: int) -> int:
    if limit.figure != "loss_increase":
        return group.cost(limit, rung)
    if limit.most > 0:
        return ceil(nats[rung] / limit.most * LOSS_UNITS)
    return int(nats[rung] > 0)


def _room(limit: ChoiceLimit, bound: Bound, groups: Sequence[Group]) -> int:
    if limit.figure != "loss_increase":
        return room(limit, bound, groups)
    return (LOSS_UNITS if limit.most > 0 else 0) - int(limit.is_strict)


def _out_of_reach(limit: ChoiceLimit, losses: Losses) -> Diagnostic | None:
    """QR601."""
    least = sum(map(min, losses))
    if least < limit.most or (least == limit.most and not limit.is_strict):
        return None
    shown = f"`loss_increase` is {least:.3g} or more, whatever is chosen"
    return over_budget(limit.row, Failure(shown))


def no_choice(budget: Budget) -> Diagnostic:
    """QR601: each limit can be kept alone."""
    return Diagnostic(
        Code.BUDGET_EXCEEDED,
        "no choice was found that keeps all limits of the budget together",
        Label(budget.span),
        help="raise one of them, or add schemes to `choose`",
    )
