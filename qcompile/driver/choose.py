"""Take for each `choose` what the budget allows and asks for.

Each candidate is measured alone, and an integer program takes one for each site.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import torch
from pydantic import JsonValue
from torch import Tensor

from qcompile.data.batches import rows
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.failure import CompileError
from qcompile.driver.allotment import allot
from qcompile.driver.bind import Bound, bind_seen
from qcompile.driver.calibration import Calibration
from qcompile.driver.candidates import Group, groups_of, out_of_reach, rungs_of, tensors_of
from qcompile.driver.tunes import tunings_by_key
from qcompile.methods.presets import preset
from qcompile.methods.tuning import Tuning
from qcompile.passes.loss_increase import Candidates, loss_increases
from qcompile.passes.padding import Padding
from qcompile.passes.prepare import prepare
from qcompile.policy.choice import ChoicePlan, GroupPlan, RungPlan
from qcompile.policy.choice_limits import choice_limits
from qcompile.policy.lower_budget import nothing_to_measure_with
from qcompile.policy.number_format import SumFormat
from qcompile.policy.rungs import Rungs

SHOWN = 5
SAMPLES = 64
"""That are measured with: whole batches, at least as many as these where there are as many."""
STAND_INS = ("optq", "rtn")
"""Round a layer for the measurement that will learn in the run, since learning takes too long: the
first, and the second what that does not serve."""
DEVICE = torch.device("cpu")

NOTHING: Mapping[str, float] = MappingProxyType({})
Progress = Callable[[str, int, int], None]
"""Told the site that is about to be measured, its number from 1, and how many there are."""


def unheard(key: str, number: int, total: int) -> None:
    """Where nobody wants to know."""


def choose(
    bound: Bound,
    used: Calibration | None,
    *,
    known: Mapping[str, float] = NOTHING,
    progress: Progress = unheard,
) -> tuple[Bound, ChoicePlan]:
    """``bound``, which has nothing chosen yet, with a scheme for each site.

    ``known`` are losses by candidate that need not be measured again. Raises ``CompileError``:
    QR211 without calibration data, what a candidate is refused for, and what is wrong with the
    choice.
    """
    if used is None:
        rules = (one.rule for one in bound.resolution.decisions if one.ladder and one.rule)
        raise CompileError([nothing_to_measure_with(next(rules))])
    budget = bound.recipe.budget
    assert budget is not None, "QR604"
    groups, limits = groups_of(bound, rungs_of(bound)), choice_limits(budget)
    beyond = list(out_of_reach(limits, bound, groups))
    if beyond:
        raise CompileError(beyond)
    tunings, moved = tunings_by_key(bound.tunes), _moved(bound)
    ladders = [
        _Ladder.of(group, [tunings.get(key, bound.recipe.tuning) for key in group.keys], moved)
        for group in groups
    ]
    batches = _first(used.batches)
    padding = used.padding.first(len(batches))
    losses = {**known, **_measured(bound, ladders, known, batches, padding, progress)}
    by_rung = [tuple(losses[name] for name in ladder.candidates) for ladder in ladders]
    found = allot(budget, bound, groups, by_rung)
    schemes = {
        key: group.ladder[at]
        for group, at in zip(groups, found.taken, strict=True)
        for key in group.keys
    }
    plan = ChoicePlan(
        samples=sum(map(rows, batches)),
        groups=tuple(
            ladder.plan(losses, at) for ladder, at in zip(ladders, found.taken, strict=True)
        ),
        objective="size" if budget.goes_by_size else "loss_increase",
        loss_increase=sum(row[at] for row, at in zip(by_rung, found.taken, strict=True)),
        bound=found.bound,
    )
    rungs = Rungs(schemes)
    return bind_seen(bound.recipe, bound.seen, trusted=bound.trusted, rungs=rungs), plan


@dataclass(frozen=True, slots=True, eq=False)
class _Ladder:
    """A group, and how its candidates are measured."""

    group: Group
    tunings: tuple[Tuning, ...]
    """Of each site, without the gradient."""
    candidates: tuple[str, ...]
    """By rung: under what name the loss is kept."""

    @classmethod
    def of(cls, group: Group, tunings: Sequence[Tuning], moved: JsonValue) -> "_Ladder":
        fast = tuple(_without_gradient(tuning, group) for tuning in tunings)
        names = tuple(group.candidate(rung, fast, moved) for rung in range(len(group.ladder)))
        return cls(group, fast, names)

    def rungs_without(self, known: Mapping[str, float]) -> list[int]:
        """That are to be measured, each candidate once."""
        rungs = {name: rung for rung, name in enumerate(self.candidates) if name not in known}
        return sorted(rungs.values())

    def plan(self, losses: Mapping[str, float], taken: int) -> GroupPlan:
        group, rule = self.group, self.group.decisions[0][0].rule
        assert rule is not None, "its action is the choice"
        rungs = tuple(
            RungPlan(
                scheme=group.ladder[rung],
                bytes=group.bytes_on(rung),
                candidate=name,
                loss_increase=losses[name],
            )
            for rung, name in enumerate(self.candidates)
        )
        return GroupPlan(sites=group.keys, decided_by=rule.reference, rungs=rungs, taken=taken)


def _moved(bound: Bound) -> JsonValue:
    """What the numbers come from that transforms find in data; nothing where none does."""
    if not any(item.needs_data for item in bound.transforms):
        return None
    transforms = [item.model_dump(mode="json") for item in bound.transforms]
    return [*transforms, tensors_of(bound.planned)]


def _first(batches: Sequence[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    found: list[dict[str, Tensor]] = []
    for batch in batches:
        if sum(map(rows, found)) >= SAMPLES:
            break
        found.append(batch)
    return found


def _measured(
    bound: Bound,
    ladders: Sequence[_Ladder],
    known: Mapping[str, float],
    batches: Sequence[dict[str, Tensor]],
    padding: Padding,
    progress: Progress,
) -> dict[str, float]:
    """Of all candidates that are not known, by candidate: the sum over the sites of a group."""
    asked: dict[str, Candidates] = {}
    for ladder in ladders:
        rungs = ladder.rungs_without(known)
        for place, tuning in enumerate(ladder.tunings):
            plans = [ladder.group.plans[rung][place] for rung in rungs]
            if plans:
                asked[plans[0].node] = Candidates(plans, tuning)
    if not asked:
        return {}
    sites = {plan.node: plan for plan in bound.planned}
    steps = prepare(bound.graph, bound.transforms, sites, batches, DEVICE, padding)
    found = loss_increases(
        steps[-1].module if steps else bound.graph,
        bound.units,
        asked,
        batches,
        seed=bound.recipe.tuning.seed or 0,
        device=DEVICE,
        progress=partial(_tell, progress, iter(range(1, len(asked) + 1)), len(asked)),
        padding=padding,
    )
    losses: dict[str, float] = {}
    for ladder in ladders:
        nodes = [plan.node for plan in ladder.group.plans[0]]
        for number, rung in enumerate(ladder.rungs_without(known)):
            losses[ladder.candidates[rung]] = sum(found[node][number] for node in nodes)
    return losses


def _tell(progress: Progress, numbers: Iterator[int], total: int, key: str) -> None:
    progress(key, next(numbers), total)


def _without_gradient(tuning: Tuning, group: Group) -> Tuning:
    if not tuning.learns:
        return tuning
    plans = [plan for rung in group.plans for plan in rung]
    formats = [tensor.spec.format for plan in plans for tensor in plan.tensors]
    stand_in = preset(STAND_INS[any(isinstance(one, SumFormat) for one in formats)])
    assert stand_in is not None
    return stand_in


def not_measurable(choice: ChoicePlan) -> list[Diagnostic]:
    """QR607: layers that the main output does not depend on."""
    keys = [key for group in choice.groups if not group.is_measured for key in group.sites]
    if not keys:
        return []
    shown = ", ".join(f"`{key}`" for key in keys[:SHOWN])
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    problem = Diagnostic(
        Code.NOT_CHOSEN,
        f"no scheme of {shown}{more} changes the output that is measured",
        notes=("it is `logits` of a mapping, else the first output",),
        help="write `use` for them; here they have the most bits that are left",
    )
    return [problem]
