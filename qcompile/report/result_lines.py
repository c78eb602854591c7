"""What is to be said of a whole run, line by line, beside the plan's summary."""

from collections.abc import Iterator

from qcompile.diagnostics.quantities import duration, human_bytes, several
from qcompile.report.layer_rows import decibels
from qcompile.report.run_report import Preparation, RequirementReport, RunReport

SHOWN = 8
"""Warnings; the report itself has them all."""


def result_lines(report: RunReport) -> Iterator[str]:
    """Time, memory, the error of the whole, transforms, what was required, and warnings."""
    on = ", ".join(f"{name} {report.run[name]}" for name in _MACHINE if name in report.run)
    resumed = f", {several(report.resumed_units, 'unit')} of an earlier process"
    yield (
        f"the run took {duration(report.seconds)} and {report.peak_rss_mb:,.0f} MB"
        f"{resumed if report.resumed_units else ''}" + (f" ({on})" if on else "")
    )
    last = report.units[-1] if report.units else None
    if last is not None and last.output_error is not None:
        level = decibels(last.output_error)
        shown = f"{level} dB over its error" if last.output_error else level
        yield f"output of `{last.unit}`: {shown}, on the calibration data"
    if report.prepared is not None and report.prepared.values:
        yield _prepared(report.prepared)
    if report.integer_sums:
        widest = max(report.integer_sums, key=lambda one: one.bits)
        yield f"integer sums need {widest.bits} bits at most, in `{widest.site}`"
    for one in report.attempts:
        tried = "the policy itself" if one.fallback is None else f"`{one.fallback}`"
        size, taken = human_bytes(one.bytes_after), duration(one.seconds)
        failed = (_required(item) for item in one.requirements if not item.holds)
        yield f"given up: {tried}, {size}, {taken} of the run; {'; '.join(failed)}"
    yield from map(_required, report.requirements)
    yield from (f"warning {text}" for text in report.warnings[:SHOWN])
    if len(report.warnings) > SHOWN:
        yield f"and {several(len(report.warnings) - SHOWN, 'warning')} more"


def _required(item: RequirementReport) -> str:
    found = f" (found {item.found})" if item.found else ""
    return f"{'holds' if item.holds else 'FAILED'}: {item.text}{found}"


_MACHINE = ("torch", "cpu", "device", "threads")
"""Of what decides bits: what tells people something."""


def _prepared(prepared: Preparation) -> str:
    names = ", ".join(dict.fromkeys(one.transform for one in prepared.values))
    return (
        f"prepared by {names}: {several(len(prepared.values), 'value')}, "
        f"outputs changed by {prepared.output_difference:.1e} of their size"
    )
