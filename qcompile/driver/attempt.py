"""One plan, carried out and judged: what a run publishes, unless a requirement does not hold."""

import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from qcompile.data.input_check import does_not_fit
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.failure import CompileError
from qcompile.driver.checkpoint import chain_bytes, chain_of, outcome_of, result_bytes
from qcompile.driver.plan import Planned
from qcompile.driver.prepared import prepared
from qcompile.driver.progress import Pace, StopRequestedError
from qcompile.driver.requirements import Judged, judge_requirements
from qcompile.driver.run_options import RunOptions
from qcompile.driver.tunes import tunings_by_node
from qcompile.emit.lower.exact import simulation
from qcompile.emit.materialize import materialize
from qcompile.passes.padding import NO_PADDING
from qcompile.passes.rescale import RescaledModel
from qcompile.passes.sweep import UnitOutcome, sweep
from qcompile.passes.sweep_progress import SweepStep
from qcompile.passes.sweep_state import ChainState
from qcompile.policy.claim import RunFigure
from qcompile.store.run_state import RunState


@dataclass(frozen=True, slots=True, eq=False)
class Attempt:
    planned: Planned
    """With the numbers of its transforms in the graph."""
    moved: tuple[RescaledModel, ...]
    """How the model was prepared, step by step."""
    outcomes: tuple[UnitOutcome, ...]
    resumed: int
    """Units that an earlier process had committed."""
    tensors: Mapping[str, Tensor]
    judged: tuple[Judged, ...]
    figures: Mapping[RunFigure, float]
    """That the requirements are about."""


def attempt(planned: Planned, state: RunState, options: RunOptions) -> Attempt:
    """Go on from ``state``, commit after each unit. Raises ``CompileError``."""
    started = time.monotonic()
    with _fitting(planned):
        planned, moved = prepared(planned, torch.device(options.device))
    swept = _sweep(planned, state, options, started)
    tensors = {name: t for one in swept.outcomes for name, t in one.tensors.items()}
    judged, figures = _judged(planned, tensors, options)
    return Attempt(
        planned=planned,
        moved=tuple(moved),
        outcomes=swept.outcomes,
        resumed=swept.resumed,
        tensors=tensors,
        judged=judged,
        figures=figures,
    )


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
        written = state.commit(outcome.unit, result_bytes(outcome), chain_bytes(outcome.state))
        if written:
            raise CompileError(written)
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


def _judged(
    planned: Planned, tensors: Mapping[str, Tensor], options: RunOptions
) -> tuple[tuple[Judged, ...], Mapping[RunFigure, float]]:
    """Measured before the artifact is written, so that its report can say how it went."""
    bound, core = planned.bound, planned.plan.core
    if not bound.recipe.requirements:
        return (), {}
    quantized = simulation(materialize(bound.graph, core, tensors))
    return judge_requirements(bound, quantized, core.evaluations, torch.device(options.device))
