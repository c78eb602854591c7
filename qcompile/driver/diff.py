"""``diff``: two recipes, saved plans, artifacts or git revisions, compared as plans."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import JsonValue

from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.failure import CompileError
from qcompile.driver.bind import Bound, bind, look
from qcompile.driver.front import Checked, check, check_source, with_model
from qcompile.driver.git_files import revision
from qcompile.driver.load import plan_of
from qcompile.driver.plan import make_plan, nothing_to_plan
from qcompile.driver.saved_plan import parse_plan, read_plan
from qcompile.policy.core import PlanCore, RuleRef
from qcompile.policy.plan_diff import PlanDiff, Side, plan_diff
from qcompile.policy.recipe import ChooseScheme, Recipe, on_one_line
from qcompile.policy.resolve import selects_nothing
from qcompile.policy.selection import Selection
from qcompile.syntax.json_form import is_json_name


@dataclass(frozen=True, slots=True)
class Compare:
    """How recipes are planned; saved plans are what they are."""

    trusted: frozenset[str] = frozenset()
    params: Mapping[str, str] = field(default_factory=dict[str, str])
    model: str | None = None


def diff(before: str, after: str, asked: Compare | None = None) -> PlanDiff:
    """Each side is a recipe, a saved plan, an artifact, or ``REVISION:PATH`` of one of the first.

    A recipe is planned as a preview, with the model's code as it is now, and what it expects is
    left aside. Raises ``CompileError`` with the problems of both sides.
    """
    sides: list[Side] = []
    problems: list[Diagnostic] = []
    for name in (before, after):
        try:
            sides.append(_side(name, asked or Compare()))
        except CompileError as error:
            problems += error.diagnostics
    if problems:
        raise CompileError(problems)
    return plan_diff(sides[0], sides[1])


def _side(name: str, asked: Compare) -> Side:
    path = Path(name)
    if path.is_dir():
        return _of_plan(name, plan_of(path).core)
    rev, colon, inside = name.partition(":")
    if colon and not path.exists():
        return _of_revision(name, rev, inside, asked)
    if _is_plan(name):
        return _of_plan(name, read_plan(path).core)
    return _of_recipe(name, check(path, asked.params), asked)


def _is_plan(name: str) -> bool:
    return name.endswith(".json") and not is_json_name(name)


def _of_revision(name: str, rev: str, path: str, asked: Compare) -> Side:
    at = revision(rev)
    if _is_plan(path):
        return _of_plan(name, parse_plan(Path(path), at.content(path)).core)
    return _of_recipe(name, check_source(at.source(path), at, asked.params), asked)


def _of_plan(name: str, core: PlanCore) -> Side:
    data: dict[str, JsonValue] = {}
    if core.data is not None:
        data = {
            "reference": core.data.reference,
            "samples": core.data.samples,
            "batch": core.data.batch,
            "sha256": core.data.sha256,
            "groups": core.data.groups.tensor if core.data.groups else None,
            "flip": core.data.flip,
            "mask": core.data.mask,
        }
    return Side(name, core, data)


def _of_recipe(name: str, checked: Checked, asked: Compare) -> Side:
    if checked.recipe is None:
        raise CompileError(list(checked.diagnostics))
    recipe = replace(checked.recipe, assertions=())
    if asked.model is not None:
        recipe = with_model(recipe, asked.model)
    if recipe.is_library or recipe.policy is None:
        raise CompileError([nothing_to_plan(recipe)])
    bound, lost = _bound(recipe, asked.trusted)
    data: dict[str, JsonValue] = {}
    if recipe.calibration is not None:
        learned = recipe.tuning.learns
        data = {
            "reference": recipe.calibration.reference,
            "samples": recipe.calibration.samples,
            "batch": recipe.tuning.batch if learned else recipe.calibration.batch,
            "groups": recipe.calibration.groups,
            "flip": recipe.calibration.flip,
            "mask": recipe.calibration.mask,
        }
    return Side(name, make_plan(bound).plan.core, data, lost, _budget(bound))


def _budget(bound: Bound) -> tuple[str, ...]:
    """Two recipes may choose otherwise, and show the fewest bits alike."""
    recipe = bound.recipe
    if not bound.is_open or recipe.budget is None:
        return ()
    rules = [rule.text for rule in recipe.rules if isinstance(rule.action, ChooseScheme)]
    other = recipe.budget.objective if recipe.budget.goes_by_size else None
    rows = [*recipe.budget.limits, *([] if other is None else [other])]
    return (*(on_one_line(row.span) for row in rows), *rules)


def _bound(recipe: Recipe, trusted: frozenset[str]) -> tuple[Bound, tuple[RuleRef, ...]]:
    """With the rules that select nothing, which the plan would refuse: here they are a finding."""
    try:
        return bind(recipe, trusted=trusted, preview=True), ()
    except CompileError as error:
        selection = Selection(look(recipe, trusted=trusted, preview=True).sites)
        lost = [rule for rule in recipe.rules if selects_nothing(rule, selection)]
        if not lost:
            raise error from None
    kept = tuple(rule for rule in recipe.rules if all(rule is not other for other in lost))
    bound = bind(replace(recipe, rules=kept), trusted=trusted, preview=True)
    return bound, tuple(rule.reference for rule in lost)
