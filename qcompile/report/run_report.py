"""``report.json``: what happened in a run; no part of an artifact's identity.

Errors are relative and squared: ``sum |q - f|^2 / sum |f|^2`` over the calibration data.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue

from qcompile.policy.graph_facts import Accumulator


class Told(BaseModel):
    """Frozen; skips what a later minor version adds, for nothing is decided by it."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)


class SiteReport(Told):
    site: str
    weight_error: float | None
    output_error: float | None
    reused_codes: bool
    """The weight was quantized at an earlier site: a further call, or a tied weight."""
    fallback: str | None
    """Why the layer's solvers left nearest rounding."""
    damping: float | None
    """With which they fitted; 0 where nearest rounding was better."""
    target: str | None
    """What they fitted."""
    note: str


class OfThree(Told):
    """On held-out data; relative, so that 1 is as bad as no output at all."""

    nearest: float
    start: float
    learned: float | None
    """``None`` where nothing came of the steps."""


class ReconstructionReport(Told):
    of: str
    held_out_error: OfThree
    held_out_loss: OfThree | None
    """What decided, where it is another than the error."""
    kept: str
    steps: int
    soft_share: float
    soft_shares: dict[str, float]
    held_out_samples: int
    note: str


class UnitReport(Told):
    unit: str
    output_error: float | None
    sites: tuple[SiteReport, ...]
    reconstructions: tuple[ReconstructionReport, ...]


class MovedValue(Told):
    transform: str
    value: str
    least_factor: float
    largest_factor: float


class Preparation(Told):
    output_difference: float
    """Of the model's outputs, behind the transforms from before them."""
    values: tuple[MovedValue, ...]


class RequirementReport(Told):
    text: str
    holds: bool
    found: str | None
    """Where it does not hold."""


class RunReport(Told):
    """What was not asked for is not written: preparation, requirements."""

    run: dict[str, str]
    """Plan, versions and machine: within these the bytes are promised to be the same."""
    seconds: float
    peak_rss_mb: float
    resumed_units: int
    warnings: tuple[str, ...]
    units: tuple[UnitReport, ...]
    integer_sums: tuple[Accumulator, ...]
    """The largest that the codes allow for any input, not those that were seen."""
    prepared: Preparation | None = None
    failed: bool = False
    requirements: tuple[RequirementReport, ...] = ()
    figures: dict[str, float | None] = {}
    """What requirements are about; percentages are 0..100."""

    def document(self) -> dict[str, JsonValue]:
        found: dict[str, Any] = self.model_dump(mode="json", exclude_unset=True)
        return found
