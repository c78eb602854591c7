"""Choose one option for each group at the least total loss within limits, exactly.

The multiple-choice knapsack problem, as an integer program that HiGHS solves by branch and bound.
"""

from collections.abc import Sequence
from math import inf

import numpy as np
import scipy

from qcompile.compat.quiet import quiet_output
from qcompile.diagnostics.frozen import frozen

SCALE = 1e5
"""The solver's tolerances are absolute: what is made small is scaled to this at the most."""
FINE = 1e3
"""Where a choice has so much less than that, it is looked for once more, on its own scale."""
FINEST = 1e-200
"""Losses below this are none."""
ROWS_SCALE = 1e4
"""The same of what is limited: a byte of a hundred million is told."""
NODES = 1_000_000
"""Of the search, so that it ends; its length must not depend on the machine's speed."""
OPTIMAL = 0


@frozen
class Option:
    loss: float
    costs: tuple[int, ...]
    """Of each resource."""


@frozen
class Allocation:
    taken: tuple[int, ...]
    """Which option of each group."""
    loss: float
    bound: float
    """No choice within the limits has a loss below this; equal to ``loss`` where that is proved."""


def allocate(groups: Sequence[Sequence[Option]], limits: Sequence[int]) -> Allocation | None:
    """``None`` if nothing within the limits is found; options of the same loss may be swapped.

    ``limits`` are the most that may be spent of each resource, in whole units.
    """
    rest = list(limits)
    while True:
        found = _solved(groups, rest)
        if found is None:
            return None
        spent = [
            sum(group[at].costs[one] for group, at in zip(groups, found.taken, strict=True))
            for one in range(len(limits))
        ]
        over = [max(a - b, 0) for a, b in zip(spent, limits, strict=True)]
        if not any(over):
            return found
        # within the solver's tolerance, and beyond the limit all the same
        rest = [a - b for a, b in zip(rest, over, strict=True)]


def _solved(groups: Sequence[Sequence[Option]], limits: Sequence[int]) -> Allocation | None:
    """What an option has more than the least of its group is made small."""
    if not groups:
        return Allocation((), 0.0, 0.0)
    least = [min(option.loss for option in group) for group in groups]
    most = max(
        option.loss - low for group, low in zip(groups, least, strict=True) for option in group
    )
    rows: list[Row] = []
    for place, limit in enumerate(limits):
        row = _row(groups, place, limit)
        if row is None:
            return None
        rows.append(row)
    best: Allocation | None = None
    while True:
        excess = [
            [min(option.loss - low, most) for option in group]
            for group, low in zip(groups, least, strict=True)
        ]
        found = _programme(excess, rows, most)
        if found is None:
            return best
        taken, unproved = found
        loss = sum(group[at].loss for group, at in zip(groups, taken, strict=True))
        if best is None or loss <= best.loss:
            best = Allocation(taken, loss, loss - unproved)
        more = sum(group[at] for group, at in zip(excess, taken, strict=True))
        if not FINEST < more * FINE < most:
            return best
        most = 2 * more  # an option with more by itself is in no better choice, and shall not tie


Row = tuple[Sequence[Sequence[float]], float]
"""What each option takes, and how much there is."""


def _row(groups: Sequence[Sequence[Option]], place: int, limit: int) -> Row | None:
    """Beyond the cheapest of each group; what is too dear by itself is so by one unit.

    ``None`` where the cheapest are too dear together.
    """
    least = [min(option.costs[place] for option in group) for group in groups]
    room = limit - sum(least)
    if room < 0:
        return None
    above = [
        [min(option.costs[place] - low, room + 1) for option in group]
        for group, low in zip(groups, least, strict=True)
    ]
    scale = ROWS_SCALE / max(*(max(group) for group in above), 1)
    return [[cost * scale for cost in group] for group in above], room * scale


def _programme(
    losses: Sequence[Sequence[float]], rows: Sequence[Row], most: float
) -> tuple[tuple[int, ...], float] | None:
    """Which option of each group, and by how much less another choice could have."""
    optimize, sparse = scipy.optimize, scipy.sparse  # loaded here: 0.2 s for choices alone
    sizes = [len(group) for group in losses]
    flat = np.concatenate(losses)
    scale = SCALE / most if most > FINEST else 1.0
    one_each = sparse.block_diag([np.ones((1, size)) for size in sizes], format="csr")
    constraints = [
        optimize.LinearConstraint(one_each, 1, 1),
        *(
            optimize.LinearConstraint(np.concatenate(costs)[None], -inf, room)
            for costs, room in rows
        ),
    ]
    with quiet_output():  # HiGHS has messages of its own, whatever `disp` says
        result = optimize.milp(
            flat * scale,
            constraints=constraints,
            integrality=np.ones(len(flat)),
            bounds=optimize.Bounds(0, 1),
            options={"mip_rel_gap": 0.0, "node_limit": NODES},
        )
    if result.x is None:
        return None
    edges = np.cumsum(sizes)[:-1]
    taken = tuple(int(part.argmax()) for part in np.split(result.x, edges))
    if result.status == OPTIMAL:
        return taken, 0.0
    found = sum(group[at] for group, at in zip(losses, taken, strict=True))
    bound = max(float(result.mip_dual_bound) / scale, 0.0)
    return taken, max(found - bound, 0.0)
