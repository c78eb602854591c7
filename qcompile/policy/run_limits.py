"""Limits of ``budget`` on a run, held against what it is expected to take."""

from collections.abc import Mapping
from types import MappingProxyType

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.diagnostics.quantities import human_bytes
from qcompile.policy.assertion import Failure
from qcompile.policy.claim import ResourceName
from qcompile.policy.recipe import Limit, Recipe, on_one_line
from qcompile.policy.run_forecast import RunForecast, UnitForecast

MOST_EXPENSIVE = 3
WAYS_OUT: Mapping[ResourceName, str] = MappingProxyType(
    {
        "time": "calibrate on fewer samples, take fewer `steps` or a cheaper preset",
        "ram": "calibrate on fewer samples or in smaller batches",
        "disk": "calibrate on fewer samples, ask for fewer exports",
    }
)


def resources(forecast: RunForecast) -> dict[ResourceName, float]:
    """By the word of the language; ``time`` only where the machine was measured."""
    found: dict[ResourceName, float] = {"ram": forecast.peak_bytes, "disk": forecast.disk_bytes}
    if forecast.seconds is not None:
        found["time"] = forecast.seconds
    return found


def run_over_budget(limit: Limit, failure: Failure, forecast: RunForecast) -> Diagnostic:
    """QR707."""
    which = limit.resources[0]
    return Diagnostic(
        Code.RUN_LIMIT,
        f"a run is expected to go beyond the budget `{on_one_line(limit.span)}`",
        Label(limit.claim.span, failure.text),
        notes=_dearest(forecast, which),
        help=f"{WAYS_OUT[which]}, or raise the limit",
    )


def too_little_memory(forecast: RunForecast, memory: int, recipe: Recipe) -> Diagnostic:
    """QR706."""
    asked = recipe.calibration
    taken = human_bytes(forecast.peak_bytes)
    return Diagnostic(
        Code.TOO_LITTLE_MEMORY,
        f"a run is expected to take {taken} of memory, and this machine has {human_bytes(memory)}",
        None if asked is None else Label(asked.span, "is held in both streams at once"),
        subject="" if asked is not None else recipe.source.name,
        notes=_dearest(forecast, "ram"),
        help=f"{WAYS_OUT['ram']}, or run the plan on a larger machine",
    )


def _dearest(forecast: RunForecast, which: ResourceName) -> tuple[str, ...]:
    ranked = sorted(forecast.units, key=lambda unit: _amount(unit, which), reverse=True)
    return (
        f"with {forecast.samples} samples in batches of {forecast.batch}",
        *(f"`{one.unit}`: {_shown(one, which)}" for one in ranked[:MOST_EXPENSIVE]),
    )


def _amount(unit: UnitForecast, which: ResourceName) -> float:
    match which:
        case "time":
            return unit.seconds or 0.0
        case "ram":
            return unit.peak_bytes
        case "disk":
            return unit.state_bytes


def _shown(unit: UnitForecast, which: ResourceName) -> str:
    amount = _amount(unit, which)
    return f"{amount:.3g} s" if which == "time" else human_bytes(round(amount))
