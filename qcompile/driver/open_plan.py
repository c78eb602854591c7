"""What can be said of a recipe before its budget has chosen: nothing is measured here."""

from collections.abc import Iterator
from dataclasses import replace

from qcompile.diagnostics.codes import Severity
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.driver.bind import Bound
from qcompile.driver.candidates import Rung, groups_of, out_of_reach, rungs_of
from qcompile.policy.assertion import check_assertions, check_limits
from qcompile.policy.choice_limits import choice_limits
from qcompile.policy.recipe import Budget


def before_choosing(bound: Bound) -> list[Diagnostic]:
    """Empty where nothing is open.

    Errors are limits that no choice keeps; warnings are claims that fail with any scheme
    everywhere, which a mixture may still keep. Raises ``CompileError`` for an illegal candidate.
    """
    budget = bound.recipe.budget
    if not bound.is_open or budget is None:
        return []
    rungs = rungs_of(bound)
    limits = choice_limits(budget)
    return [*out_of_reach(limits, bound, groups_of(bound, rungs)), *_failing(bound, budget, rungs)]


def _failing(bound: Bound, budget: Budget, rungs: list[Rung]) -> Iterator[Diagnostic]:
    first, *others = [
        {one.primary.span: one for one in _claims(bound, budget, rung) if one.primary}
        for rung in rungs
    ]
    for place, problem in first.items():
        if all(place in other for other in others):
            note = "so it is with the fewest bits of every `choose`, and with each further scheme"
            yield replace(problem, notes=(*problem.notes, note), severity_override=Severity.WARNING)


def _claims(bound: Bound, budget: Budget, rung: Rung) -> list[Diagnostic]:
    """Of the whole model on one rung, apart from the limits that are looked at exactly."""
    exact = [limit.row for limit in choice_limits(budget)]
    rest = replace(budget, limits=tuple(row for row in budget.limits if row not in exact))
    of_rung = (bound.sites, rung.resolution, rung.measured)
    return [*check_limits(rest, *of_rung), *check_assertions(bound.recipe.assertions, *of_rung)]
