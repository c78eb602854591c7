"""Assignments of ``make bench-choose`` fill the bytes of uniform bits, and take no more."""

import pytest

from qcompile.diagnostics.source import Source
from qcompile.driver.front import check_source
from qcompile.policy.choice import ChoicePlan, GroupPlan, RungPlan
from qcompile.policy.rule_ref import RuleRef
from tests.bench.choice import (
    BITS,
    Found,
    Setting,
    as_markdown,
    at_random,
    predicted,
    raised,
    rank_correlation,
    rules_of,
    settings,
    smallest_first,
    spent,
    summary,
)

HERE = RuleRef(file="r.qrecipe", line=1, column=1, text="choose")


def rung(name, size, bits):
    return RungPlan(
        scheme=f"w{bits}a8",
        bytes=size * bits,
        candidate=f"{name}{bits}",
        loss_increase=1 / bits,
    )


def group(name, size):
    rungs = tuple(rung(name, size, bits) for bits in BITS)
    return GroupPlan(sites=(name,), decided_by=HERE, rungs=rungs, taken=0)


CHOICE = ChoicePlan(
    samples=64,
    groups=(group("a", 100), group("b", 10), group("c", 40)),
    loss_increase=1.0,
    bound=1.0,
)
ROOM = 150 * 3


@pytest.mark.parametrize("assignment", [smallest_first(CHOICE, ROOM), at_random(CHOICE, ROOM, 1)])
def test_assignments_fill_the_bytes(assignment):
    assert spent(CHOICE, assignment) <= ROOM
    for place, one in enumerate(CHOICE.groups):
        if assignment[place] + 1 < len(one.rungs):
            assert spent(CHOICE, raised(assignment, place)) > ROOM


def test_the_smallest_layers_get_the_most():
    assert smallest_first(CHOICE, ROOM) == (0, BITS.index(8), BITS.index(4))


def test_random_assignments_differ_and_are_the_same_again():
    found = {at_random(CHOICE, ROOM, seed) for seed in range(10)}
    assert len(found) > 2
    assert at_random(CHOICE, ROOM, 3) == at_random(CHOICE, ROOM, 3)


@pytest.mark.parametrize("rules", [["use w3a8 for conv"], rules_of(CHOICE, (0, 4, 2))])
def test_every_assignment_is_a_recipe_without_a_complaint(rules):
    checked = check_source(Source("r.qrecipe", Setting(3, "hybrid", 1).recipe(rules)))
    assert checked.recipe is not None
    assert list(checked.diagnostics) == []


def test_the_chosen_one_is_a_recipe_too():
    ladder = ", ".join(f"w{bits}a8" for bits in BITS)
    budget = "budget { size <= 107.8kB; minimize loss_increase }"
    text = Setting(3, "rtn", 2).recipe([f"choose {ladder} for conv"], budget)
    checked = check_source(Source("r.qrecipe", text))
    assert list(checked.diagnostics) == []
    assert checked.recipe.calibration.seed == 2


def test_rows_are_means_and_ranks_are_of_all_assignments():
    setting = Setting(3, "rtn", 1)
    found = [
        Found(setting, how, at, {"kl": kl, "top1": 0.9, "bytes": 1000, "agreement": 1.0})
        for how, at, kl in [("chosen", 0.1, 0.2), ("random 1", 0.3, 0.6), ("random 2", 0.2, 0.4)]
    ]
    assert rank_correlation(found) == pytest.approx(1.0)
    chosen, others = summary(found)
    assert (chosen["runs"], others["runs"]) == (1, 2)
    assert (others["kl"], others["least_kl"]) == (pytest.approx(0.5), 0.4)
    last = as_markdown([chosen, others]).splitlines()[-1]
    assert last == "| w3 | `rtn` | random | 2 | 1.0 | 90.00 | 0.5000 | 0.4000 |"
    assert predicted(CHOICE, (0, 0, 0)) == pytest.approx(1.5)
    assert len(list(settings(3))) == 12
