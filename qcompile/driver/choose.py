"""Take for each `choose` what costs the least accuracy within the budget.

Each candidate is measured alone, and an integer program takes one for each site.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from qcompile.analysis.allocation import Option, allocate
from qcompile.data.batches import rows
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.diagnostics.failure import CompileError
from qcompile.driver.bind import Bound
from qcompile.driver.calibration import Calibration
from qcompile.driver.candidates import Group, bound_on, groups_of, room
from qcompile.driver.tunes import tunings_by_key
from qcompile.methods.presets import preset
from qcompile.methods.tuning import Tuning
from qcompile.passes.loss_increase import Candidates, loss_increases
from qcompile.passes.rescale import rescaled
from qcompile.policy.choice import ChoicePlan, GroupPlan, RungPlan
from qcompile.policy.choice_limits import choice_limits
from qcompile.policy.core import SitePlan
from qcompile.policy.number_format import SumFormat
from qcompile.policy.rungs import Rungs

SAMPLES = 64
"""That are measured with: whole batches, at least as many as these where there are as many."""
STAND_INS = ("optq", "rtn")
"""Round a layer for the measurement that will learn in the run, since learning takes too long: the
first, and the second what that does not serve."""
DEVICE = torch.device("cpu")

Losses = Mapping[str, Sequence[float]]
"""By the key of the site, and by rung."""
Progress = Callable[[str, int, int], None]
"""Told the site that is about to be measured, its number from 1, and how many there are."""


def unheard(key: str, number: int, total: int) -> None:
    """Where nobody wants to know."""


def choose(
    bound: Bound, used: Calibration | None, progress: Progress = unheard
) -> tuple[Bound, ChoicePlan]:
    """``bound``, which has nothing chosen yet, with a scheme for each site.

    Raises ``CompileError``: QR211 without calibration data, what a candidate is refused for, and
    what is wrong with the choice.
    """
    if used is None:
        raise CompileError([nothing_to_measure_with(bound)])
    budget = bound.recipe.budget
    assert budget is not None, "QR604"
    groups = groups_of(bound)
    batches = _first(used.batches)
    losses = _measured(bound, groups, batches, progress)
    limits = choice_limits(budget)
    options = [
        [
            Option(_loss(group, losses, rung), tuple(group.cost(one, rung) for one in limits))
            for rung in range(len(group.ladder))
        ]
        for group in groups
    ]
    found = allocate(options, [room(limit, bound, groups) for limit in limits])
    taken = found.taken if found else (0,) * len(groups)  # the limit's own check says why
    pairs = list(zip(groups, taken, strict=True))
    schemes = {key: group.ladder[at] for group, at in pairs for key in group.keys}
    plan = ChoicePlan(
        samples=sum(map(rows, batches)),
        groups=tuple(_group_plan(group, losses, at) for group, at in pairs),
        loss_increase=found.loss if found else 0.0,
        bound=found.bound if found else 0.0,
    )
    return bound_on(bound.recipe, bound, Rungs(schemes)), plan


def _first(batches: Sequence[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    found: list[dict[str, Tensor]] = []
    for batch in batches:
        if sum(map(rows, found)) >= SAMPLES:
            break
        found.append(batch)
    return found


def _measured(
    bound: Bound, groups: Sequence[Group], batches: Sequence[dict[str, Tensor]], progress: Progress
) -> Losses:
    tunings = tunings_by_key(bound.tunes)
    asked: dict[str, Candidates] = {}
    for group in groups:
        for place, key in enumerate(group.keys):
            plans = [rung[place] for rung in group.plans]
            tuning = _without_gradient(tunings.get(key, bound.recipe.tuning), plans)
            asked[plans[0].node] = Candidates(plans, tuning)
    sites = {plan.node: plan for plan in bound.planned}
    moved = rescaled(bound.graph, bound.transforms, sites, batches, DEVICE)
    graph = bound.graph if moved is None else moved.module
    told = partial(_tell, progress, iter(range(1, len(asked) + 1)), len(asked))
    seed = bound.recipe.tuning.seed or 0
    found = loss_increases(
        graph, bound.units, asked, batches, seed=seed, device=DEVICE, progress=told
    )
    return {asked[node].plans[0].key: losses for node, losses in found.items()}


def _tell(progress: Progress, numbers: Iterator[int], total: int, key: str) -> None:
    progress(key, next(numbers), total)


def _without_gradient(tuning: Tuning, plans: Sequence[SitePlan]) -> Tuning:
    if not tuning.learns:
        return tuning
    formats = [tensor.spec.format for plan in plans for tensor in plan.tensors]
    stand_in = preset(STAND_INS[any(isinstance(one, SumFormat) for one in formats)])
    assert stand_in is not None
    return stand_in


def _loss(group: Group, losses: Losses, rung: int) -> float:
    return sum(losses[key][rung] for key in group.keys)


def _group_plan(group: Group, losses: Losses, taken: int) -> GroupPlan:
    rule = group.decisions[0].rule
    assert rule is not None, "its action is the choice"
    return GroupPlan(
        sites=group.keys,
        decided_by=rule.reference,
        rungs=tuple(
            RungPlan(
                scheme=scheme,
                bytes=group.bytes_on(rung),
                loss_increase=_loss(group, losses, rung),
            )
            for rung, scheme in enumerate(group.ladder)
        ),
        taken=taken,
    )


def nothing_to_measure_with(bound: Bound) -> Diagnostic:
    """QR211."""
    rule = next(one.rule for one in bound.resolution.decisions if one.ladder)
    return Diagnostic(
        Code.MISSING_STATEMENT,
        "`choose` measures what each scheme costs, and there is no `calibrate`",
        Label(rule.span) if rule else None,
        help='add `calibrate { data = "..." }`',
    )
