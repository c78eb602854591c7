"""What happened in a run, for people and for later comparison; no part of the identity."""

import math
import time
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from qcompile.analysis.accumulator import sums_of_run
from qcompile.driver.plan import Planned
from qcompile.driver.process_memory import peak_rss_mb
from qcompile.driver.requirements import Judged
from qcompile.passes.reconstruct import Account
from qcompile.passes.sweep import UnitOutcome
from qcompile.policy.claim import RunFigure
from qcompile.policy.recipe import on_one_line


def report(
    planned: Planned,
    outcomes: Sequence[UnitOutcome],
    identity: dict[str, str],
    resumed: int,
    started: float,
) -> dict[str, JsonValue]:
    """Errors are relative and squared: ``sum |q - f|^2 / sum |f|^2`` over the calibration data.

    ``integer_sums`` are the largest that the codes allow for any input, not those that were seen.
    """
    tensors = {name: tensor for outcome in outcomes for name, tensor in outcome.tensors.items()}
    return {
        "run": {**identity},
        "seconds": round(time.monotonic() - started, 3),
        "peak_rss_mb": peak_rss_mb(),
        "resumed_units": resumed,
        "warnings": [f"{d.code.number}: {d.message}" for d in planned.diagnostics],
        "units": [_unit(outcome) for outcome in outcomes],
        "integer_sums": [
            one.model_dump(mode="json") for one in sums_of_run(planned.plan.core.sites, tensors)
        ],
    }


def required(judged: Sequence[Judged], figures: Mapping[RunFigure, float]) -> dict[str, JsonValue]:
    """What ``require`` asked and found; percentages are 0..100. Nothing where it asked nothing."""
    if not judged:
        return {}
    rows: list[JsonValue] = [
        {
            "text": on_one_line(item.span),
            "holds": why is None,
            "found": None if why is None else why.text,
        }
        for item, why in judged
    ]
    shown: dict[str, JsonValue] = {
        name: value if math.isfinite(value) else None for name, value in figures.items()
    }
    failed = any(why is not None for _, why in judged)
    return {"failed": failed, "requirements": rows, "figures": shown}


def _unit(outcome: UnitOutcome) -> dict[str, JsonValue]:
    return {
        "unit": outcome.unit,
        "output_error": outcome.output_error,
        "sites": [
            {
                "site": figures.key,
                "weight_error": figures.weight_error,
                "output_error": figures.output_error,
                "reused_codes": figures.reused_codes,
                "fallback": figures.fallback,
                "damping": figures.damping,
                "target": figures.target,
                "note": figures.note,
            }
            for figures in outcome.sites
        ],
        "reconstructions": [_reconstruction(*item) for item in outcome.accounts],
    }


def _reconstruction(name: str, account: Account) -> dict[str, JsonValue]:
    """``held_out_loss`` decided, where it is another than the error; relative to the start."""
    losses = account.losses
    return {
        "of": name,
        "held_out_error": _of_three(account.nearest, account.start, account.learned),
        "held_out_loss": _of_three(losses.nearest, losses.start, losses.learned)
        if losses
        else None,
        "kept": account.kept,
        "steps": account.steps,
        "soft_share": account.soft_share,
        "soft_shares": {**account.soft_shares},
        "held_out_samples": account.held_out_samples,
        "note": account.note,
    }


def _of_three(nearest: float, start: float, learned: float) -> dict[str, JsonValue]:
    shown = learned if math.isfinite(learned) else None
    return {"nearest": nearest, "start": start, "learned": shown}
