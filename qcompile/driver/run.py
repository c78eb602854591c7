"""The last phase: execute exactly one plan, unit by unit, and publish its artifact."""

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, fx

from qcompile.data.input_check import does_not_fit
from qcompile.data.project import project_around
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.failure import CompileError
from qcompile.driver.asked_exports import check_places, write_asked
from qcompile.driver.bind import Bound, bind, bind_seen
from qcompile.driver.checkpoint import chain_bytes, chain_of, outcome_of, result_bytes
from qcompile.driver.choose import Progress as Measuring
from qcompile.driver.choose import unheard
from qcompile.driver.export import Export
from qcompile.driver.front import load_recipe
from qcompile.driver.identity import run_identity
from qcompile.driver.intent import save_intent
from qcompile.driver.load import identity_of, load, verify
from qcompile.driver.plan import (
    Planned,
    make_plan,
    plan_recipe,
    read_plan,
    save_plan,
    saved_params,
    saved_rungs,
)
from qcompile.driver.prepared import prepared
from qcompile.driver.progress import Listener, Pace, StopRequestedError
from qcompile.driver.report import report
from qcompile.driver.requirements import Judged, judge_requirements
from qcompile.driver.run_account import check_account_places, write_accounts
from qcompile.driver.tunes import tunings_by_node
from qcompile.emit.artifact import write_artifact
from qcompile.emit.lower.exact import simulation
from qcompile.emit.materialize import materialize
from qcompile.passes.padding import NO_PADDING
from qcompile.passes.sweep import UnitOutcome, sweep
from qcompile.passes.sweep_progress import SweepStep
from qcompile.passes.sweep_state import ChainState
from qcompile.policy.assertion import requirement_failed
from qcompile.policy.claim import RunFigure
from qcompile.policy.core import OutputPlan, Plan
from qcompile.policy.identity import differences, is_a_preview, stale_plan
from qcompile.policy.lower import NO_ARGUMENTS
from qcompile.policy.recipe import Recipe
from qcompile.report.run_report import RunReport
from qcompile.store.atomic import check_free, remove_tree
from qcompile.store.disk import Disk
from qcompile.store.run_state import RunState
from qcompile.syntax.json_form import is_json_name
from qcompile.targets.names import REFERENCE

SAVED_PLAN = "plan.json"


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How to run. Only ``device`` and ``threads`` may change bits of the artifact."""

    work: Path = Path(".qcompile/runs")
    device: str = "cpu"
    threads: int | None = None
    replace: bool = False
    fresh: bool = False
    """Forget the saved state of an unfinished run of this plan."""
    listener: Listener = field(default=lambda moment: None)
    measuring: Measuring = unheard
    """Told of what is measured for the plan, where the subject is a recipe that chooses."""
    should_stop: Callable[[], bool] = _never
    disk: Disk = field(default_factory=Disk)


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
    execute(planned, Path(output), options or RunOptions())
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


def execute(planned: Planned, output: Path, options: RunOptions) -> Done:
    """Sweep, commit after each unit, publish; an unfinished run of the same plan is continued."""
    asked = planned.plan.beside.output
    _raise(_taken(output, asked, options.replace))
    started = time.monotonic()
    with threads(options.threads):
        identity = run_identity(planned.plan, torch.device(options.device))
        with _opened(planned.plan, identity, output, options) as state:
            with _fitting(planned):
                planned, moved = prepared(planned, torch.device(options.device))
            swept = _sweep(planned, state, options, started)
            tensors = {name: t for one in swept.outcomes for name, t in one.tensors.items()}
            judged, figures = _judged(planned, tensors, options)
            told = report(
                planned,
                swept.outcomes,
                identity,
                moved=moved,
                judged=judged,
                figures=figures,
                resumed=swept.resumed,
                started=started,
            )
            _publish(planned, tensors, told, output, options)
            exports, problems = write_asked(options.disk, output, asked.formats, options.replace)
            account = (planned.plan, told)
            reports, unwritten = write_accounts(
                options.disk, output, asked.reports, account, options.replace
            )
            problems += unwritten
            problems += state.finish()
    failed = [requirement_failed(item, why, output) for item, why in judged if why is not None]
    problems = [*problems, *verify(output), *failed]
    if problems:
        raise CompileError(problems)
    return Done(
        plan=planned.plan,
        output=output,
        identity=identity_of(output),
        seconds=time.monotonic() - started,
        diagnostics=planned.diagnostics,
        exports=exports,
        reports=reports,
    )


def _taken(output: Path, asked: OutputPlan, replaced: bool) -> list[Diagnostic]:
    """QR901 for each name, before any work is done for it."""
    return check_free(output, replaced) or [
        *check_places(output, asked.formats, replaced),
        *check_account_places(output, asked.reports, replaced),
    ]


@dataclass(frozen=True, slots=True, eq=False)
class _Swept:
    outcomes: tuple[UnitOutcome, ...]
    resumed: int
    """Units that an earlier process had committed."""


def _sweep(planned: Planned, state: RunState, options: RunOptions, started: float) -> _Swept:
    outcomes = list(_committed(state))
    resumed = len(outcomes)
    pace = Pace(started)

    def listen(step: SweepStep) -> None:
        if options.should_stop():
            raise StopRequestedError
        options.listener(pace.at(time.monotonic(), step))

    core, bound = planned.plan.core, planned.bound
    units = sweep(
        bound.graph,
        bound.units,
        {site.node: site for site in core.sites},
        planned.calibration.batches if planned.calibration else (),
        tuning=core.tuning,
        tunings=tunings_by_node(core),
        norms={unit.name: unit.refits for unit in core.units},
        seed=core.seed,
        device=torch.device(options.device),
        judging=planned.calibration.judging if planned.calibration else None,
        padding=planned.calibration.padding if planned.calibration else NO_PADDING,
        start=outcomes[-1].state if outcomes else None,
        progress=listen,
    )
    outcomes = [_without_state(outcome) for outcome in outcomes]
    for outcome in _within_sizes(units, planned):
        _raise(state.commit(outcome.unit, result_bytes(outcome), chain_bytes(outcome.state)))
        outcomes.append(_without_state(outcome))
        del outcome  # its state are the streams: they are not held while the next unit runs
    return _Swept(tuple(outcomes), resumed)


def _within_sizes(units: Iterator[UnitOutcome], planned: Planned) -> Iterator[UnitOutcome]:
    with _fitting(planned):
        yield from units


@contextmanager
def _fitting(planned: Planned) -> Generator[None]:
    """QR702 where the model stops on samples of another size than the example's.

    A table of places ends somewhere, and no shape says where.
    """
    try:
        yield
    except (IndexError, RuntimeError) as error:
        used, bound = planned.calibration, planned.bound
        if used is None or not used.batches:
            raise
        example = {name: value.shape[1:] for name, value in bound.seen.example.named(bound.model)}
        given = {name: value.shape for name, value in used.batches[0].items()}
        if all(shape[1:] == example.get(name, shape[1:]) for name, shape in given.items()):
            raise
        way_out = "cut the data to what the model takes (`seq_len`)"
        problem = does_not_fit(used.plan.reference, given.values(), str(error), way_out)
        raise CompileError([problem]) from error


def _without_state(outcome: UnitOutcome) -> UnitOutcome:
    return replace(outcome, state=ChainState(outcome.unit, {}, ""))


def _committed(state: RunState) -> Iterator[UnitOutcome]:
    """Results of the units that are done; only the last one brings its chain."""
    for number, unit in enumerate(state.completed, start=1):
        chain = ChainState(unit, {}, "")
        if number == len(state.completed):
            chain = chain_of(_payload(state.load_chain(unit)))
        yield outcome_of(unit, _payload(state.load(unit)), chain)


def _payload(loaded: bytes | list[Diagnostic]) -> bytes:
    if isinstance(loaded, list):
        raise CompileError(loaded)
    return loaded


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


def _judged(
    planned: Planned, tensors: Mapping[str, Tensor], options: RunOptions
) -> tuple[tuple[Judged, ...], Mapping[RunFigure, float]]:
    """Measured before the artifact is written, so that its report can say how it went."""
    bound, core = planned.bound, planned.plan.core
    if not bound.recipe.requirements:
        return (), {}
    quantized = simulation(materialize(bound.graph, core, tensors))
    return judge_requirements(bound, quantized, core.evaluations, torch.device(options.device))


def _opened(plan: Plan, identity: dict[str, str], output: Path, options: RunOptions) -> RunState:
    directory = options.work / plan.core_sha256[:16]
    if options.fresh:
        _forget(directory, identity, options)
    state = _open_state(directory, identity, options)
    try:
        save_plan(plan, directory / SAVED_PLAN)
        asked = (output, options.replace, options.device, options.threads)
        _raise(save_intent(options.disk, directory, *asked))
    except BaseException:
        state.close()
        raise
    return state


def _forget(directory: Path, identity: dict[str, str], options: RunOptions) -> None:
    """Remove what an earlier run left, whatever its identity; not one that is still going on."""
    state = RunState.open(directory, identity, options.disk)
    if isinstance(state, RunState):
        _raise(state.finish())
        return
    _raise([problem for problem in state if problem.code is Code.RUN_LOCKED])
    remove_tree(options.disk, directory)


def _open_state(directory: Path, identity: dict[str, str], options: RunOptions) -> RunState:
    state = RunState.open(directory, identity, options.disk)
    if isinstance(state, list):
        raise CompileError(state)
    return state


def _replanned(
    saved: Plan, bound: Bound | None, data: object | None, trusted: frozenset[str]
) -> Planned:
    rungs, choice = saved_rungs(saved.core), saved.beside.choice
    if bound is not None and not bound.is_open:
        return make_plan(bound, data, choice=choice)
    if bound is not None:
        again = bind_seen(bound.recipe, bound.seen, trusted=bound.trusted, rungs=rungs)
        return make_plan(again, data, choice=choice)
    recipe = load_recipe(_recipe_file(saved, Path.cwd()), saved_params(saved.core))
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
