"""``report.json``: what happened in a run; no part of an artifact's identity.

Errors are relative and squared: ``sum |q - f|^2 / sum |f|^2`` over the calibration data.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue

Finite = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


class Told(BaseModel):
    """Frozen; skips what a later minor version adds, for nothing is decided by it.

    What has a default was not in the reports of the first version.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)


class SiteReport(Told):
    site: str
    weight_error: Finite | None
    output_error: Finite | None
    reused_codes: bool
    """The weight was quantized at an earlier site: a further call, or a tied weight."""
    fallback: str | None = None
    """Why the layer's solvers left nearest rounding."""
    damping: Finite | None = None
    """With which they fitted; 0 where nearest rounding was better."""
    target: str | None = None
    """What they fitted."""
    blend: Finite | None = None
    """How much of the way there from the layer's own output, as held-out batches have it.

    ``None`` if that is the target.
    """
    note: str = ""


class OfThree(Told):
    """On held-out data; relative, so that 1 is as bad as no output at all.

    ``None`` where it is not finite, or nothing came of the steps.
    """

    nearest: Finite | None
    start: Finite | None
    learned: Finite | None


class ReconstructionReport(Told):
    of: str
    held_out_error: OfThree
    held_out_loss: OfThree | None = None
    """What decided, where it is another than the error."""
    kept: str
    steps: Count
    soft_share: Finite = 0.0
    soft_shares: dict[str, Finite] = {}
    held_out_samples: Count = 0
    note: str = ""


class UnitReport(Told):
    unit: str
    output_error: Finite | None
    sites: tuple[SiteReport, ...]
    reconstructions: tuple[ReconstructionReport, ...] = ()


class MovedValue(Told):
    transform: str
    value: str
    least_factor: Finite
    largest_factor: Finite


class Preparation(Told):
    output_difference: Finite
    """Of the model's outputs, behind the transforms from before them."""
    values: tuple[MovedValue, ...]


class RequirementReport(Told):
    text: str
    holds: bool
    found: str | None
    """Where it does not hold."""


Figures = dict[str, Annotated[float, Field(allow_inf_nan=False)] | None]


class AttemptReport(Told):
    """A plan that was carried out and given up: a requirement did not hold."""

    fallback: str | None
    """The scheme that took the place of the policy's; ``None``: the policy as it is."""
    bytes_after: Count
    seconds: Finite
    resumed_units: Count
    requirements: tuple[RequirementReport, ...]
    figures: Figures


class IntegerSum(Told):
    """As ``graph_facts.Accumulator``, of the codes that there are."""

    site: str
    terms: Count
    low: int
    high: int
    bits: Count


class RunReport(Told):
    """What was not asked for is not written: preparation, requirements, attempts."""

    format_version: str = "1.0"
    run: dict[str, str]
    """Plan, versions and machine: within these the bytes are promised to be the same."""
    seconds: Finite
    peak_rss_mb: Finite
    resumed_units: Count
    warnings: tuple[str, ...]
    units: tuple[UnitReport, ...]
    integer_sums: tuple[IntegerSum, ...] = ()
    """The largest that the codes allow for any input, not those that were seen."""
    prepared: Preparation | None = None
    failed: bool = False
    requirements: tuple[RequirementReport, ...] = ()
    figures: Figures = {}
    """What requirements are about; percentages are 0..100."""
    attempts: tuple[AttemptReport, ...] = ()
    """Those before this one, which the rest of the report is not about; ``seconds`` and
    ``resumed_units`` are of all."""

    def document(self) -> dict[str, JsonValue]:
        found: dict[str, Any] = self.model_dump(mode="json", exclude_unset=True)
        return found
