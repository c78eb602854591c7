"""What happened in a run, for people and for later comparison; no part of the identity."""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from qcompile.analysis.accumulator import sums_of_run
from qcompile.driver.attempt import Attempt
from qcompile.driver.plan import Planned
from qcompile.driver.process_memory import peak_rss_mb
from qcompile.driver.requirements import Judged
from qcompile.passes.reconstruct import Account
from qcompile.passes.rescale import RescaledModel
from qcompile.passes.sweep import UnitOutcome
from qcompile.policy.claim import RunFigure
from qcompile.policy.recipe import on_one_line
from qcompile.report.run_report import (
    AttemptReport,
    IntegerSum,
    MovedValue,
    OfThree,
    Preparation,
    ReconstructionReport,
    RequirementReport,
    RunReport,
    SiteReport,
    UnitReport,
)


def report(
    planned: Planned,
    outcomes: Sequence[UnitOutcome],
    identity: dict[str, str],
    *,
    moved: Sequence[RescaledModel],
    judged: Sequence[Judged],
    figures: Mapping[RunFigure, float],
    resumed: int,
    started: float,
    before: Sequence[AttemptReport] = (),
) -> RunReport:
    """``moved``: how the model was prepared, step by step; ``started`` as ``monotonic`` has it.

    ``before`` are the attempts that were given up.
    """
    tensors = {name: tensor for outcome in outcomes for name, tensor in outcome.tensors.items()}
    return RunReport(
        run=identity,
        seconds=round(time.monotonic() - started, 3),
        peak_rss_mb=peak_rss_mb(),
        resumed_units=resumed,
        warnings=tuple(f"{d.code.number}: {d.message}" for d in planned.diagnostics),
        units=tuple(_unit(outcome) for outcome in outcomes),
        integer_sums=tuple(
            IntegerSum(**one.model_dump()) for one in sums_of_run(planned.plan.core.sites, tensors)
        ),
        **_prepared(moved),
        **_required(judged, figures),
        **_given_up(before),
    )


def attempt_report(given_up: Attempt, seconds: float) -> AttemptReport:
    """Of a plan that did not hold what was required."""
    core = given_up.planned.plan.core
    required = _required(given_up.judged, given_up.figures)
    return AttemptReport(
        fallback=core.fallback,
        bytes_after=core.bytes_after,
        seconds=round(seconds, 3),
        resumed_units=given_up.resumed,
        requirements=required["requirements"],
        figures=required["figures"],
    )


def _prepared(steps: Sequence[RescaledModel]) -> dict[str, Any]:
    """Nothing where nothing was moved."""
    if not steps:
        return {}
    values = tuple(
        MovedValue(
            transform=one.name,
            value=one.value,
            least_factor=one.least,
            largest_factor=one.largest,
        )
        for step in steps
        for one in step.moved
    )
    difference = max(step.difference for step in steps)
    return {"prepared": Preparation(output_difference=difference, values=values)}


def _required(judged: Sequence[Judged], figures: Mapping[RunFigure, float]) -> dict[str, Any]:
    """What ``require`` asked and found. Nothing where it asked nothing."""
    if not judged:
        return {}
    rows = tuple(
        RequirementReport(
            text=on_one_line(item.span), holds=why is None, found=None if why is None else why.text
        )
        for item, why in judged
    )
    shown = {name: value if math.isfinite(value) else None for name, value in figures.items()}
    failed = any(why is not None for _, why in judged)
    return {"failed": failed, "requirements": rows, "figures": shown}


def _given_up(before: Sequence[AttemptReport]) -> dict[str, Any]:
    return {"attempts": tuple(before)} if before else {}


def _unit(outcome: UnitOutcome) -> UnitReport:
    return UnitReport(
        unit=outcome.unit,
        output_error=_finite(outcome.output_error),
        sites=tuple(
            SiteReport(
                site=figures.key,
                weight_error=_finite(figures.weight_error),
                output_error=_finite(figures.output_error),
                reused_codes=figures.reused_codes,
                fallback=figures.fallback,
                damping=figures.damping,
                blend=figures.blend,
                target=figures.target,
                note=figures.note,
            )
            for figures in outcome.sites
        ),
        reconstructions=tuple(_reconstruction(*item) for item in outcome.accounts),
    )


def _reconstruction(name: str, account: Account) -> ReconstructionReport:
    losses = account.losses
    return ReconstructionReport(
        of=name,
        held_out_error=_of_three(account.nearest, account.start, account.learned),
        held_out_loss=_of_three(losses.nearest, losses.start, losses.learned) if losses else None,
        kept=account.kept,
        steps=account.steps,
        soft_share=account.soft_share,
        soft_shares={**account.soft_shares},
        held_out_samples=account.held_out_samples,
        note=account.note,
    )


def _of_three(nearest: float, start: float, learned: float) -> OfThree:
    return OfThree(nearest=_finite(nearest), start=_finite(start), learned=_finite(learned))


def _finite(error: float | None) -> float | None:
    """JSON has no other numbers."""
    return error if error is not None and math.isfinite(error) else None
