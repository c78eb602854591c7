"""The last phase: execute a plan, else what it says it falls back to, and publish one artifact."""

import gc
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, fx

from qcompile.data.project import project_around
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, in_order
from qcompile.diagnostics.failure import CompileError
from qcompile.driver.asked_exports import check_places, write_asked
from qcompile.driver.attempt import Attempt, attempt
from qcompile.driver.bind import Bound, bind, bind_seen
from qcompile.driver.export import Export
from qcompile.driver.front import load_recipe
from qcompile.driver.identity import run_identity
from qcompile.driver.load import identity_of, load, verify
from qcompile.driver.plan import Planned, fall_back, make_plan, plan_recipe, without_unused
from qcompile.driver.progress import StopRequestedError
from qcompile.driver.report import attempt_report, report
from qcompile.driver.run_account import check_account_places, write_accounts
from qcompile.driver.run_directory import opened, opened_within
from qcompile.driver.run_options import RunOptions
from qcompile.driver.saved_plan import as_saved, read_plan, saved_params, saved_rungs
from qcompile.emit.artifact import write_artifact
from qcompile.policy.assertion import requirement_failed
from qcompile.policy.core import OutputPlan, Plan
from qcompile.policy.fallback import next_fallback, taken_fallback
from qcompile.policy.identity import differences, is_a_preview, stale_plan
from qcompile.policy.lower import NO_ARGUMENTS
from qcompile.policy.recipe import Recipe
from qcompile.report.run_report import AttemptReport, RunReport
from qcompile.store.atomic import check_free
from qcompile.store.run_state import RunState
from qcompile.syntax.json_form import is_json_name
from qcompile.targets.names import REFERENCE


@dataclass(frozen=True, slots=True)
class Done:
    plan: Plan
    output: Path
    identity: str
    seconds: float
    diagnostics: tuple[Diagnostic, ...]
    exports: tuple[Export, ...] = ()
    """Those that the recipe asks for, beside the artifact."""
    reports: tuple[Path, ...] = ()
    """The same."""


def run(
    plan: Plan,
    output: str | Path,
    *,
    bound: Bound | None = None,
    data: object | None = None,
    options: RunOptions | None = None,
    trusted: frozenset[str] = frozenset(),
) -> fx.GraphModule:
    """Execute ``plan``, write its artifact to ``output``, and return it as the simulation.

    Where a ``require`` with ``else`` does not hold, that is executed instead, and written.
    The exports and reports that the recipe asks for are written beside it. ``bound`` and ``data``
    are needed where the plan was made from objects; without ``bound`` the plan's own recipe is
    bound again, with ``trusted`` packages as when it was made. Raises ``CompileError``: QR708 if
    recipe, weights, graph, data or tool have changed since, QR720 for a preview, QR901 if
    ``output`` or the name of an export or report is taken, QR904 for a block that is not finite,
    QR606 for a ``require`` that does not hold, QR550 to QR553 for an export that only the finished
    weights show to be impossible (in these two cases the artifact is there all the same).
    """
    _refuse_preview(plan, "plan")
    planned = _replanned(plan, bound, data, trusted)
    _refuse_stale(plan, planned.plan, "plan")
    execute(planned, Path(output), options or RunOptions(), data)
    return load(output, REFERENCE)


def run_subject(
    subject: Path,
    output: Path | None,
    options: RunOptions,
    *,
    trusted: frozenset[str] = frozenset(),
    params: Mapping[str, str] = NO_ARGUMENTS,
) -> Done:
    """Run a recipe, or a saved plan after checking that nothing has changed since."""
    if output is not None:  # before anything is measured
        _raise(check_free(output, options.replace))
    if subject.suffix == ".json" and not is_json_name(subject.name):
        saved = read_plan(subject)
        _refuse_preview(saved, str(subject))
        params = {**saved_params(saved.core), **params}
        file = _recipe_file(saved, subject)
        planned = plan_recipe(file, trusted=trusted, params=params, saved=saved)
        _refuse_stale(saved, planned.plan, str(subject))
    else:

        def measuring(key: str, number: int, total: int) -> None:
            if options.should_stop():
                raise StopRequestedError
            options.measuring(key, number, total)

        planned = plan_recipe(subject, trusted=trusted, params=params, progress=measuring)
    return execute(planned, output or default_output(planned.bound.recipe), options)


def default_output(recipe: Recipe) -> Path:
    """``dir`` of the recipe's ``output``, else ``build/<name of the recipe>``."""
    if recipe.output is not None and recipe.output.directory is not None:
        return Path(recipe.source.name).parent / recipe.output.directory
    return Path("build") / Path(recipe.source.name).stem


def execute(
    planned: Planned, output: Path, options: RunOptions, data: object | None = None
) -> Done:
    """Sweep, commit after each unit, publish; an unfinished run of the same plan is continued.

    Where a requirement does not hold, what its ``else`` names is carried out instead, and nothing
    of the first is published. ``data`` is what the plan was made with, if not the recipe's.
    """
    asked = planned.plan.beside.output
    _raise(_taken(output, asked, options.replace))
    started = time.monotonic()
    with threads(options.threads):
        identity = _identity(planned, options)
        with opened(planned.plan, identity, output, options) as state:
            done, before, fallen = _attempts(planned, state, options, data)
            said = [*_said(planned, done.planned), *fallen] if fallen else planned.diagnostics
            made = replace(done.planned, diagnostics=tuple(said))
            told = report(
                made,
                done.outcomes,
                _identity(made, options),
                moved=done.moved,
                judged=done.judged,
                figures=done.figures,
                resumed=done.resumed + sum(one.resumed_units for one in before),
                started=started,
                before=before,
            )
            _publish(made, done.tensors, told, output, options)
            exports, problems = write_asked(options.disk, output, asked.formats, options.replace)
            account = (made.plan, told)
            reports, unwritten = write_accounts(
                options.disk, output, asked.reports, account, options.replace
            )
            problems += unwritten
            problems += state.finish()
    failed = [requirement_failed(item, why, output) for item, why in done.judged if why is not None]
    problems = [*problems, *verify(output), *failed]
    if problems:
        raise CompileError([*problems, *fallen])
    return Done(
        plan=made.plan,
        output=output,
        identity=identity_of(output),
        seconds=time.monotonic() - started,
        diagnostics=made.diagnostics,
        exports=exports,
        reports=reports,
    )


def _attempts(
    planned: Planned, state: RunState, options: RunOptions, data: object | None
) -> tuple[Attempt, list[AttemptReport], list[Diagnostic]]:
    """The plan, else what it falls back to, until all holds or there is nothing left to try.

    With it those before it, and why each was given up.
    """
    before: list[AttemptReport] = []
    fallen: list[Diagnostic] = []
    tried: set[str] = set()
    began = time.monotonic()
    done = attempt(planned, state, options)
    if taken_fallback(planned.bound.recipe) is not None:  # it is one, and knows of no others
        return done, before, fallen
    while (found := next_fallback(done.judged, tried)) is not None:
        scheme, why = found
        before.append(attempt_report(done, time.monotonic() - began))
        fallen.append(why)
        options.falling_back(why)
        del done
        gc.collect()  # its tensors and its graph: they are not held while the next is carried out
        tried.add(scheme)
        began = time.monotonic()
        try:
            done = _instead(planned, scheme, options, data)
        except CompileError as error:
            raise CompileError([*error.diagnostics, *fallen]) from None
    return done, before, fallen


def _instead(planned: Planned, scheme: str, options: RunOptions, data: object | None) -> Attempt:
    other = fall_back(planned, scheme, data)
    identity = _identity(other, options)
    with opened_within(planned.plan, other.plan, identity, options) as state:
        return attempt(other, state, options)


def _said(planned: Planned, done: Planned) -> list[Diagnostic]:
    """What is to be said of ``done``; of the machine, what was when all of it was planned."""
    machine = [one for one in planned.diagnostics if one.code is Code.TOO_LITTLE_MEMORY]
    unused = [one for one in planned.diagnostics if one.code is Code.UNUSED_SUPPRESSION]
    return in_order([*without_unused(planned.settle(done.diagnostics)), *machine, *unused])


def _identity(planned: Planned, options: RunOptions) -> dict[str, str]:
    return run_identity(planned.plan, torch.device(options.device))


def _taken(output: Path, asked: OutputPlan, replaced: bool) -> list[Diagnostic]:
    """QR901 for each name, before any work is done for it."""
    return check_free(output, replaced) or [
        *check_places(output, asked.formats, replaced),
        *check_account_places(output, asked.reports, replaced),
    ]


def _publish(
    planned: Planned,
    tensors: Mapping[str, Tensor],
    told: RunReport,
    output: Path,
    options: RunOptions,
) -> None:
    bound = planned.bound
    made = (bound.graph, planned.plan, tensors, told.document())
    _raise(
        write_artifact(options.disk, output, *made, options.replace, bound.seen.loaded.description)
    )


def _replanned(
    saved: Plan, bound: Bound | None, data: object | None, trusted: frozenset[str]
) -> Planned:
    rungs, choice = saved_rungs(saved.core), saved.beside.choice
    if bound is not None and not bound.is_open and saved.core.fallback is None:
        return make_plan(bound, data, choice=choice)
    if bound is not None:
        recipe = as_saved(bound.recipe, saved)
        again = bind_seen(recipe, bound.seen, trusted=bound.trusted, rungs=rungs)
        return make_plan(again, data, choice=choice)
    file = _recipe_file(saved, Path.cwd())
    recipe = as_saved(load_recipe(file, saved_params(saved.core)), saved)
    return make_plan(bind(recipe, trusted=trusted, rungs=rungs), data, choice=choice)


def _recipe_file(saved: Plan, near: Path) -> Path:
    """The recipe of a saved plan: in the project around us or around the plan, or beside it."""
    name = saved.core.recipe[0].name
    around = (Path.cwd(), near.parent)
    places = [
        folder / name for near_by in around for folder in (project_around(near_by).root, near_by)
    ]
    return next((place for place in places if place.exists()), places[0])


def _refuse_preview(plan: Plan, shown: str) -> None:
    if plan.core.is_preview:
        raise CompileError([is_a_preview(shown)])


def _refuse_stale(saved: Plan, fresh: Plan, shown: str) -> None:
    changed = differences(saved.core, fresh.core)
    if changed:
        raise CompileError([stale_plan(shown, changed)])


def _raise(problems: list[Diagnostic]) -> None:
    if problems:
        raise CompileError(problems)


@contextmanager
def threads(count: int | None) -> Generator[None]:
    """Run with ``count`` threads of torch; put the old number back."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
