"""What a run is expected to take, as text: the most expensive blocks, then all of it."""

from collections.abc import Iterator, Sequence

from qcompile.diagnostics.quantities import duration, human_bytes, several
from qcompile.policy.run_forecast import RunForecast, UnitForecast

SHOWN = 8
HEADINGS = ("expected of a run", "time", "memory", "state on disk")


def forecast_lines(forecast: RunForecast, *, full: bool) -> Iterator[str]:
    """A row for each unit, in the order of the run; without ``full`` the most expensive ones."""
    ranked = sorted(forecast.units, key=_cost, reverse=True)
    kept = {unit.unit for unit in (ranked if full else ranked[:SHOWN])}
    table = [HEADINGS, *(_row(unit) for unit in forecast.units if unit.unit in kept)]
    widths = [max(len(row[column]) for row in table) for column in range(len(HEADINGS))]
    yield from (_line(row, widths) for row in table)
    left_out = len(forecast.units) - len(kept)
    if left_out:
        yield f"  ... {several(left_out, 'cheaper unit')} (--full shows all)"
    yield f"  {forecast_summary(forecast)}"
    if forecast.units:
        yield f"  {memory_summary(forecast)}"


def forecast_summary(forecast: RunForecast) -> str:
    """``about 4:10 on 2 threads, 560 MB of memory, 77 MB of disk``."""
    parts = [
        f"{human_bytes(forecast.peak_bytes)} of memory",
        f"{human_bytes(forecast.disk_bytes)} of disk",
    ]
    if forecast.seconds is not None:
        threads = int(forecast.machine.get("threads", "1"))
        parts.insert(0, f"about {duration(forecast.seconds)} on {several(threads, 'thread')}")
    return f"{', '.join(parts)}; {several(forecast.samples, 'sample')}"


def memory_summary(forecast: RunForecast) -> str:
    """``the memory, in `blocks.1`: 90 MB program, model and data, 400 MB both streams, ...``."""
    largest = max(forecast.units, key=lambda unit: unit.peak_bytes)
    parts = (
        (forecast.peak_bytes - largest.peak_bytes, "program, model and data"),
        (largest.streams_bytes, "both streams"),
        (largest.statistics_bytes, "statistics of a layer"),
        (largest.learning_bytes, "steps"),
    )
    shown = ", ".join(f"{human_bytes(count)} {what}" for count, what in parts)
    return f"the memory, in `{largest.unit}`: {shown}"


def _cost(unit: UnitForecast) -> tuple[float, int]:
    return unit.seconds or 0.0, unit.peak_bytes


def _row(unit: UnitForecast) -> tuple[str, ...]:
    time = "" if unit.seconds is None else duration(unit.seconds)
    return unit.unit, time, human_bytes(unit.peak_bytes), human_bytes(unit.state_bytes)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [row[0].ljust(widths[0])]
    cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
    return "  " + "  ".join(cells)
