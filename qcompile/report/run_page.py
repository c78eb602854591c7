"""A finished run as one HTML file: no script, no network; every name in it is escaped."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log10

from qcompile.diagnostics.quantities import human_bytes
from qcompile.policy.core import Plan
from qcompile.report.colours import bits_colour
from qcompile.report.layer_rows import HEADINGS, RIGHT_ALIGNED, LayerRow, decibels, layer_rows
from qcompile.report.plan_rows import summary, title
from qcompile.report.result_lines import result_lines
from qcompile.report.run_report import RunReport
from qcompile.report.templates import template

BAR = 560
"""Pixels of the longest bar."""
STEP = 18
"""Pixels from one bar to the next."""
LEAST_SPAN = 30
"""Decibels that a bar of full length shows at least."""


@dataclass(frozen=True, slots=True)
class _Bar:
    label: str
    y: int
    width: float
    colour: str
    text: str


@dataclass(frozen=True, slots=True)
class _Chart:
    title: str
    bars: tuple[_Bar, ...]

    @property
    def height(self) -> int:
        return STEP * len(self.bars) + 8


@dataclass(frozen=True, slots=True)
class _Key:
    colour: str
    text: str


def run_page(plan: Plan, report: RunReport) -> str:
    rows = tuple(layer_rows(plan, report))
    charts = (_errors(rows), _sizes(plan, rows))
    return template("qcompile.report", "run_page.html.j2").render(
        title=title(plan.core),
        failed=report.failed,
        lines=[*summary(plan, finished=True), *result_lines(report)],
        charts=[chart for chart in charts if chart.bars],
        legend=_legend(rows),
        headings=HEADINGS,
        right=RIGHT_ALIGNED,
        rows=[(row, row.cells) for row in rows],
        recipe=plan.beside.recipe_texts,
        run=report.run,
    )


def _errors(rows: Sequence[LayerRow]) -> _Chart:
    """Signal over noise of each layer's output; nothing of layers whose output is exact."""
    shown = [(row, row.output_error) for row in _layers(rows) if row.output_error]
    levels = [-10 * log10(error) for _, error in shown]
    span = max([LEAST_SPAN, *levels])
    bars = tuple(
        _Bar(
            label=row.key,
            y=STEP * place,
            width=round(BAR * max(level, 0) / span, 1),
            colour=bits_colour(row.bits),
            text=f"{decibels(error)} dB",
        )
        for place, ((row, error), level) in enumerate(zip(shown, levels, strict=True))
    )
    return _Chart("Signal over error at the output of each layer, on the calibration data", bars)


def _sizes(plan: Plan, rows: Sequence[LayerRow]) -> _Chart:
    shown = [row for row in _layers(rows) if row.bytes_after]
    most = max((row.bytes_after for row in shown), default=1)
    bars = tuple(
        _Bar(
            label=row.key,
            y=STEP * place,
            width=round(BAR * row.bytes_after / most, 1),
            colour=bits_colour(row.bits),
            text=f"{human_bytes(row.bytes_before)} -> {human_bytes(row.bytes_after)}",
        )
        for place, row in enumerate(shown)
    )
    whole = f"{human_bytes(plan.core.bytes_before)} -> {human_bytes(plan.core.bytes_after)}"
    return _Chart(f"Bytes on disk of layers that the plan tells apart (all tensors: {whole})", bars)


def _layers(rows: Sequence[LayerRow]) -> Iterator[LayerRow]:
    return (row for row in rows if row.scheme)


def _legend(rows: Sequence[LayerRow]) -> list[_Key]:
    present = {row.bits for row in _layers(rows)}
    ordered = sorted(present, key=lambda bits: 99 if bits is None else bits)
    return [
        _Key(bits_colour(bits), "float" if bits is None else f"{bits} bits") for bits in ordered
    ]
