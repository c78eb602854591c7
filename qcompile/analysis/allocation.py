"""Choose one option for each group at the least total loss within limits, exactly.

The multiple-choice knapsack problem, as an integer program that HiGHS solves by branch and bound.
"""

from collections.abc import Sequence
from math import inf

import numpy as np
import scipy

from qcompile.compat.quiet import quiet_output
from qcompile.diagnostics.frozen import frozen

LOSS_SCALE = 1e5
"""The solver's tolerances are absolute: losses are scaled to this at the first options."""
SPREAD = 1e12
"""The most that a loss may be above those of the first options: the solver takes 1e20 for none."""
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
    optimize, sparse = scipy.optimize, scipy.sparse  # loaded here: 0.2 s for choices alone
    options = [option for group in groups for option in group]
    if not options:
        return Allocation((), 0.0, 0.0)
    sizes = [len(group) for group in groups]
    losses = np.array([option.loss for option in options])
    first = float(np.abs(losses[np.cumsum([0, *sizes[:-1]])]).sum())
    whole = max(first, float(np.abs(losses).max()) / SPREAD)
    scale = LOSS_SCALE / whole if whole > 0 else 1.0
    one_each = sparse.block_diag([np.ones((1, size)) for size in sizes], format="csr")
    rows = [optimize.LinearConstraint(one_each, 1, 1)]
    for place, limit in enumerate(limits):
        least = [min(option.costs[place] for option in group) for group in groups]
        above = [
            option.costs[place] - low
            for group, low in zip(groups, least, strict=True)
            for option in group
        ]
        unit = max(*above, 1)
        costs = np.array([cost / unit for cost in above])[None]
        rows.append(optimize.LinearConstraint(costs, -inf, (limit - sum(least)) / unit))
    with quiet_output():  # HiGHS has messages of its own, whatever `disp` says
        result = optimize.milp(
            losses * scale,
            constraints=rows,
            integrality=np.ones(len(options)),
            bounds=optimize.Bounds(0, 1),
            options={"mip_rel_gap": 0.0, "node_limit": NODES},
        )
    if result.x is None:
        return None
    edges = np.cumsum(sizes)[:-1]
    taken = tuple(int(part.argmax()) for part in np.split(result.x, edges))
    loss = sum(group[at].loss for group, at in zip(groups, taken, strict=True))
    is_proved = result.status == OPTIMAL
    bound = loss if is_proved else float(result.mip_dual_bound) / scale
    return Allocation(taken, loss, min(bound, loss))
