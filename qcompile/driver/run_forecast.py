"""What a run of a plan will take of this machine, and what of it a budget does not allow."""

from dataclasses import replace

from qcompile.analysis.actual_sizes import ActualSizes
from qcompile.analysis.run_memory import samples_bytes, unit_memory
from qcompile.analysis.run_seconds import rescaling_seconds, unit_seconds, weighing_seconds
from qcompile.analysis.run_walk import RunWalk
from qcompile.analysis.speeds import Speeds
from qcompile.capture.sites import find_sites
from qcompile.data.batches import rows
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.driver.bind import Bound
from qcompile.driver.calibration import Calibration, batch_size
from qcompile.driver.export import known
from qcompile.driver.machine import machine_speeds
from qcompile.driver.process_memory import memory_bytes, resident_bytes
from qcompile.driver.tunes import tunings_by_key
from qcompile.passes.balance import balances
from qcompile.policy.assertion import failed_run_limits
from qcompile.policy.rotation import LOOKED_AT
from qcompile.policy.run_forecast import RunForecast, UnitForecast
from qcompile.policy.run_limits import resources, run_over_budget, too_little_memory

STATES = 2
"""States that a run keeps on disk at a time, beside the one that is being written."""
LOADED_BY_RUN = 28 << 20
"""Kernels and programs that a process loads only when it runs."""


def expected(
    bound: Bound, used: Calibration | None, *, asked: bool, behind: RunForecast | None = None
) -> tuple[RunForecast | None, list[Diagnostic]]:
    """The forecast and what is said of it: QR706 for this machine, QR707 for the budget.

    It is of this run and of that ``behind`` which it follows in the same process.
    The machine is measured only if somebody wants to know the time. A preview is not to be run
    here, and nothing is forecast of it unless that is ``asked`` for or the budget limits the run.
    """
    budget = bound.recipe.budget
    limits = [limit for limit in budget.limits if limit.resources] if budget else []
    if bound.is_preview and not asked and not limits:
        return None, []
    timed = asked or any("time" in limit.resources for limit in limits)
    forecast = run_forecast(bound, used, machine_speeds() if timed else None)
    if behind is not None:
        forecast = forecast.behind(behind, sum(unit.bytes_before for unit in bound.forecast))
    if budget is None:
        return forecast, _on_this_machine(bound, forecast)
    measured = replace(bound.measured, resources=resources(forecast))
    failed = failed_run_limits(budget, bound.sites, bound.resolution, measured)
    over = [run_over_budget(*one, forecast) for one in failed]
    return forecast, over or _on_this_machine(bound, forecast)


def _on_this_machine(bound: Bound, forecast: RunForecast) -> list[Diagnostic]:
    memory = memory_bytes()
    if memory is None or forecast.peak_bytes <= memory:
        return []
    return [too_little_memory(forecast, memory, bound.recipe)]


def run_forecast(bound: Bound, used: Calibration | None, speeds: Speeds | None) -> RunForecast:
    """Without ``speeds`` the time is left open. A preview goes by what ``calibrate`` asks for."""
    asked = bound.recipe.calibration
    samples = used.plan.samples if used else (asked.samples if asked else 0)
    samples *= 2 if asked and asked.flip else 1
    batch = used.plan.batch if used else batch_size(bound, asked.batch if asked else 1)
    most = min(batch, samples)
    if used is not None and used.batches:  # samples in groups are cut into even batches
        most = rows(used.batches[0])
    walk = RunWalk(
        graph=bound.graph,
        sites={site.node: site for site in find_sites(bound.graph)},
        units=bound.units,
        planned={plan.node: plan for plan in bound.planned},
        tuning=bound.recipe.tuning,
        tunings=tunings_by_key(bound.tunes),
        sizes=_sizes(bound, used, most),
        batches=samples / max(most, 1),
        batch=batch,
    )
    memory = tuple(unit_memory(walk))
    seconds = None if speeds is None else [round(s, 3) for s in unit_seconds(walk, speeds, memory)]
    moves = any(item.value is not None for item in bound.transforms)
    before = 0.0
    if speeds is not None:
        before = weighing_seconds(walk, speeds)
        before += rescaling_seconds(walk, speeds) if moves else 0
        before += rescaling_seconds(walk, speeds, LOOKED_AT) if balances(bound.graph) else 0
    units = tuple(
        UnitForecast(
            unit=unit.name,
            seconds=None if seconds is None else seconds[place],
            peak_bytes=memory[place].peak,
            streams_bytes=memory[place].streams,
            statistics_bytes=memory[place].statistics,
            learning_bytes=memory[place].learning,
            state_bytes=memory[place].state,
        )
        for place, unit in enumerate(bound.units)
    )
    after = sum(unit.bytes_after for unit in bound.forecast)
    missing = sum(unit.bytes_before for unit in bound.forecast) if bound.is_preview else 0
    missing += 0 if used else samples_bytes(walk)
    nodes = len(walk.nodes)
    exports = sum(
        known(name).expected_bytes(bound.planned, after, nodes)
        for name in (bound.recipe.output.exports if bound.recipe.output else ())
    )
    states = sorted((one.state for one in memory), reverse=True)[: STATES + 1]
    return RunForecast(
        samples=samples,
        batch=batch,
        units=units,
        seconds=None if seconds is None else round(before + sum(seconds), 3),
        peak_bytes=resident_bytes()
        + missing
        + LOADED_BY_RUN
        + max((one.peak for one in memory), default=0),
        disk_bytes=2 * after + sum(states) + exports,
        kept_bytes=after + sum(states),
        machine={} if speeds is None else speeds.machine,
    )


def _sizes(bound: Bound, used: Calibration | None, batch: int) -> ActualSizes:
    """Of the first batch; in a preview, of the example with as many samples as a batch has."""
    graph = bound.graph.graph
    if used is not None and used.batches:
        return ActualSizes.of(graph, {k: tuple(v.shape) for k, v in used.batches[0].items()})
    example = bound.seen.example.named(bound.model)
    return ActualSizes.of(graph, {name: (batch, *value.shape[1:]) for name, value in example})
