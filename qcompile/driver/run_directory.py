"""The folders of unfinished runs: one for each plan, and in it one for each it falls back to."""

from pathlib import Path

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.failure import CompileError
from qcompile.driver.intent import save_intent
from qcompile.driver.run_options import RunOptions
from qcompile.driver.saved_plan import save_plan
from qcompile.policy.core import Plan
from qcompile.store.atomic import remove_tree
from qcompile.store.run_state import RunState

SAVED_PLAN = "plan.json"
FALLBACKS = "else"


def opened(plan: Plan, identity: dict[str, str], output: Path, options: RunOptions) -> RunState:
    """The state of the run of ``plan``, begun or found, with how it was asked for beside it."""
    directory = _directory(plan, options)
    if options.fresh:
        _forget(directory, identity, options)
    state = _open_state(directory, identity, options)
    try:
        save_plan(plan, directory / SAVED_PLAN)
        asked = (output, options.replace, options.device, options.threads)
        problems = save_intent(options.disk, directory, *asked)
        if problems:
            raise CompileError(problems)
    except BaseException:
        state.close()
        raise
    return state


def opened_within(
    first: Plan, plan: Plan, identity: dict[str, str], options: RunOptions
) -> RunState:
    """The same of what the run of ``first`` falls back to: it goes with that, and is resumed so."""
    folder = _directory(first, options) / FALLBACKS / _name(plan)
    return _open_state(folder, identity, options)


def _directory(plan: Plan, options: RunOptions) -> Path:
    return options.work / _name(plan)


def _name(plan: Plan) -> str:
    return plan.core_sha256[:16]


def _forget(directory: Path, identity: dict[str, str], options: RunOptions) -> None:
    """Remove what an earlier run left, whatever its identity; not one that is still going on."""
    state = RunState.open(directory, identity, options.disk)
    if isinstance(state, RunState):
        problems = state.finish()
        if problems:
            raise CompileError(problems)
        return
    locked = [problem for problem in state if problem.code is Code.RUN_LOCKED]
    if locked:
        raise CompileError(locked)
    remove_tree(options.disk, directory)


def _open_state(directory: Path, identity: dict[str, str], options: RunOptions) -> RunState:
    state = RunState.open(directory, identity, options.disk)
    if isinstance(state, list):
        raise CompileError(state)
    return state
