"""Limits of ``budget`` on a run, held against what it is expected to take."""

from collections.abc import Mapping
from types import MappingProxyType

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.diagnostics.quantities import human_bytes
from qcompile.policy.assertion import Failure
from qcompile.policy.claim import ResourceName
from qcompile.policy.recipe import Limit, on_one_line
from qcompile.policy.run_forecast import RunForecast, UnitForecast

MOST_EXPENSIVE = 3
WAYS_OUT: Mapping[ResourceName, str] = MappingProxyType(
    {
        "time": "calibrate on fewer samples, take fewer `steps` or a cheaper preset, "
        "or raise the limit",
        "ram": "calibrate on fewer samples or in smaller batches, or raise the limit",
        "disk": "calibrate on fewer samples, or raise the limit",
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
    ranked = sorted(forecast.units, key=lambda unit: _amount(unit, which), reverse=True)
    return Diagnostic(
        Code.RUN_LIMIT,
        f"a run is expected to go beyond the budget `{on_one_line(limit.span)}`",
        Label(limit.claim.span, failure.text),
        notes=(
            f"with {forecast.samples} samples in batches of {forecast.batch}",
            *(f"`{one.unit}`: {_shown(one, which)}" for one in ranked[:MOST_EXPENSIVE]),
        ),
        help=WAYS_OUT[which],
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
