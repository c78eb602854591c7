"""What the integer programs of a budget are asked: one rung of each ladder, by loss or by bytes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context
from math import ceil, floor

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

LOSS_UNITS = 10**9
"""Whole units that a limit on the loss is cut into."""
ATTEMPTS = 20
"""At a choice that goes beyond a limit on the loss by less than its units tell."""

Table = Sequence[Sequence[float]]
"""By group and rung."""


@frozen
class Allotment:
    taken: tuple[int, ...]
    """Which rung of each group."""
    bound: float
    """No choice within the limits has less of what is made small: nats, or bytes of the groups
    whose losses are not all zero."""


@dataclass(frozen=True, slots=True, eq=False)
class Programme:
    losses: Table
    """In nats. A group in which all are zero was not measured: it gets the last rung that is left,
    and its bytes are not counted."""
    sizes: Sequence[Sequence[int]]
    """In bytes."""
    costs: Sequence[Sequence[tuple[int, ...]]]
    """By group and rung, of each limit but those on the loss; in whole units."""
    rooms: tuple[int, ...]
    """What may be spent of each."""
    most: tuple[tuple[float, bool], ...] = ()
    """Limits on the sum of losses, and whether it must stay below."""

    def least_loss(self) -> Allotment | None:
        """The choice with the least loss within the limits; ``None`` if none is found."""
        found = self._solved(self.losses, self.costs, self.rooms)
        return None if found is None else Allotment(self._filled(found.taken), found.bound)

    def fewest_bytes(self) -> Allotment | None:
        """The choice with the fewest bytes, and of these the one with the least loss."""
        counted = [
            [size if any(row) else 0 for size in sizes]
            for sizes, row in zip(self.sizes, self.losses, strict=True)
        ]
        smallest = self._solved(counted, self.costs, self.rooms)
        if smallest is None:
            return None
        fewest = round(smallest.loss)
        costs = [
            [(*cost, size) for cost, size in zip(rungs, sizes, strict=True)]
            for rungs, sizes in zip(self.costs, counted, strict=True)
        ]
        best = self._solved(self.losses, costs, (*self.rooms, fewest)) or smallest
        return Allotment(self._filled(best.taken), smallest.bound)

    def _filled(self, taken: tuple[int, ...]) -> tuple[int, ...]:
        """With the last rungs that are left for groups that were not measured."""
        if all(map(any, self.losses)):
            return taken
        options = [
            [Option(0.0, costs[at])]
            if any(row)
            else [Option(float(-rung), cost) for rung, cost in enumerate(costs)]
            for row, costs, at in zip(self.losses, self.costs, taken, strict=True)
        ]
        found = allocate(options, self.rooms)
        if found is None:
            return taken
        pairs = zip(self.losses, taken, found.taken, strict=True)
        return tuple(at if any(row) else more for row, at, more in pairs)

    def _solved(
        self, values: Table, costs: Sequence[Sequence[tuple[int, ...]]], rooms: tuple[int, ...]
    ) -> Allocation | None:
        """Losses are first rounded down to units, so that nothing is left out that keeps a limit.

        Where a choice goes beyond it by less than these tell, they are rounded up.
        """
        loss_rooms = [LOSS_UNITS if most > 0 else 0 for most, _ in self.most]
        for attempt in range(ATTEMPTS):
            rounding = ceil if attempt else floor
            options = [
                [
                    Option(value, (*cost, *(_units(nats, most, rounding) for most, _ in self.most)))
                    for value, cost, nats in zip(*row, strict=True)
                ]
                for row in zip(values, costs, self.losses, strict=True)
            ]
            found = allocate(options, [*rooms, *loss_rooms])
            if found is None:
                return None
            loss = sum(row[at] for row, at in zip(self.losses, found.taken, strict=True))
            beyond = [number for number, one in enumerate(self.most) if not _keeps(loss, *one)]
            if not beyond:
                return found
            for number in beyond if attempt else ():
                place = len(rooms) + number
                spent = (row[at].costs[place] for row, at in zip(options, found.taken, strict=True))
                loss_rooms[number] = sum(spent) - 1
        return None


def allot(budget: Budget, bound: Bound, groups: Sequence[Group], losses: Table) -> Allotment:
    """By what ``budget`` goes. Raises ``CompileError`` (QR601) where nothing keeps its limits."""
    limits = choice_limits(budget)
    of_loss = [limit for limit in limits if limit.figure == "loss_increase"]
    others = [limit for limit in limits if limit.figure != "loss_increase"]
    least = sum(map(min, losses))
    beyond = [
        loss_out_of_reach(limit, least)
        for limit in of_loss
        if not _keeps(least, limit.most, limit.is_strict)
    ]
    if beyond:
        raise CompileError(beyond)
    rungs = [range(len(group.ladder)) for group in groups]
    programme = Programme(
        losses=losses,
        sizes=[
            [group.bytes_on(rung) for rung in of] for group, of in zip(groups, rungs, strict=True)
        ],
        costs=[
            [tuple(group.cost(limit, rung) for limit in others) for rung in of]
            for group, of in zip(groups, rungs, strict=True)
        ],
        rooms=tuple(room(limit, bound, groups) for limit in others),
        most=tuple((limit.most, limit.is_strict) for limit in of_loss),
    )
    found = programme.fewest_bytes() if budget.goes_by_size else programme.least_loss()
    if found is None:
        raise CompileError([no_choice(budget)])
    return found


def _keeps(loss: float, most: float, is_strict: bool) -> bool:
    return loss < most if is_strict else loss <= most


def _units(nats: float, most: float, rounding: Callable[[float], int]) -> int:
    """Of a limit; one more than there are where a rung goes beyond it by itself."""
    if nats > most or most <= 0:
        return LOSS_UNITS + 1 if nats > max(most, 0.0) else 0
    return rounding(nats / most * LOSS_UNITS)


def loss_out_of_reach(limit: ChoiceLimit, least: float) -> Diagnostic:
    """QR601; the number that is shown could be the limit."""
    rounded = Context(prec=3, rounding=ROUND_CEILING).create_decimal_from_float(least)
    shown = f"`loss_increase` is {float(rounded):.3g} or more, whatever is chosen"
    return over_budget(limit.row, Failure(shown))


def no_choice(budget: Budget) -> Diagnostic:
    """QR601: each limit can be kept alone."""
    return Diagnostic(
        Code.BUDGET_EXCEEDED,
        "no choice was found that keeps all limits of the budget together",
        Label(budget.span),
        help="raise one of them, or add schemes to `choose`",
    )
