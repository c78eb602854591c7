"""What became of each block and layer, as rows: the plan's decisions beside the run's errors."""

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from math import log10

from qcompile.diagnostics.frozen import frozen
from qcompile.diagnostics.quantities import human_bytes, several
from qcompile.policy.core import Plan, SitePlan
from qcompile.report.plan_rows import operands_text, slot_text
from qcompile.report.run_report import ReconstructionReport, RunReport, SiteReport

HEADINGS = (
    "block / layer",
    "scheme",
    "weight",
    "activation",
    "bytes",
    "weight dB",
    "output dB",
    "remarks",
)
RIGHT_ALIGNED = {4, 5, 6}


@frozen
class LayerRow:
    """A block, or a layer of one; ``None`` and empty where there is nothing to say."""

    key: str
    """Whole, where the row is of a layer; else the name of the block."""
    name: str
    is_inner: bool
    """A layer that stands below the row of its block."""
    scheme: str
    weight: str
    act: str
    bits: int | None
    """Of the weight."""
    bytes_before: int
    bytes_after: int
    """0 where the plan does not tell them apart: of a layer in a block that stays float."""
    weight_error: float | None
    output_error: float | None
    remarks: tuple[str, ...]

    @property
    def cells(self) -> tuple[str, ...]:
        size = f"{human_bytes(self.bytes_before)} -> {human_bytes(self.bytes_after)}"
        name, remarks = _one_line(self.name), _one_line("; ".join(self.remarks))
        return (
            f"  {name}" if self.is_inner else name,
            self.scheme,
            self.weight,
            self.act,
            size if self.bytes_before else "",
            decibels(self.weight_error),
            decibels(self.output_error),
            remarks,
        )


def layer_rows(plan: Plan, report: RunReport) -> Iterator[LayerRow]:
    """In the order of the run; errors are missing where the report does not know the layer."""
    planned = {site.key: site for site in plan.core.sites}
    told = {site.site: site for unit in report.units for site in unit.sites}
    units = {unit.unit: unit for unit in report.units}
    for unit in plan.core.units:
        found = units.get(unit.name)
        sites = [planned[key] for key in unit.sites]
        learned = () if found is None else found.reconstructions
        apart = {site.key: tuple(_learned(learned, {site.key})) for site in sites}
        rest = tuple(_learned(learned, {one.of for one in learned} - apart.keys(), unit.name))
        alone = len(sites) == 1 and sites[0].key == unit.name
        if not alone:
            yield LayerRow(
                key=unit.name,
                name=unit.name,
                is_inner=False,
                scheme="",
                weight="",
                act="",
                bits=None,
                bytes_before=unit.bytes_before,
                bytes_after=unit.bytes_after,
                weight_error=None,
                output_error=None if found is None else found.output_error,
                remarks=rest,
            )
        for site in sites:
            row = _site_row(site, unit.name, told, apart[site.key] + (rest if alone else ()))
            sizes = (unit.bytes_before, unit.bytes_after)
            yield replace(row, bytes_before=sizes[0], bytes_after=sizes[1]) if alone else row


def decibels(error: float | None) -> str:
    """A relative squared error as the ratio of signal and noise: ``23.4``, the more the better."""
    if error is None:
        return ""
    return f"{0 - 10 * log10(error):.1f}" if error else "exact"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _site_row(
    site: SitePlan, unit: str, told: Mapping[str, SiteReport], remarks: tuple[str, ...]
) -> LayerRow:
    own = [one for one in site.tensors if one.slot == "weight"]
    weight, found = own[0] if own else None, told.get(site.key)
    inner = site.key != unit
    return LayerRow(
        key=site.key,
        name=site.key.removeprefix(f"{unit}.") if inner else site.key,
        is_inner=inner,
        scheme=site.scheme or "skip",
        weight="float" if weight is None else slot_text(weight.spec),
        act=operands_text(site, lambda one: slot_text(one.spec)),
        bits=None if weight is None else weight.spec.bits,
        bytes_before=sum(one.bytes_before for one in own),
        bytes_after=sum(one.bytes_after for one in site.tensors),
        weight_error=None if found is None else found.weight_error,
        output_error=None if found is None else found.output_error,
        remarks=(*(() if found is None else _fitted(found)), *remarks),
    )


def _fitted(site: SiteReport) -> Iterator[str]:
    if site.reused_codes:
        yield "codes of an earlier call"
    if site.fallback:
        yield site.fallback
    if site.damping:
        wanted = _WANTED.get(site.target or "", "its output")
        blend = "" if site.blend in (None, 1) else f", blend {site.blend:.3g}"
        yield f"fitted to {wanted}{blend}, damping {site.damping:g}"
    elif site.damping == 0:
        yield "nearest rounding was better"
    if site.note:
        yield site.note


_WANTED = {
    "symmetric": "its own output",
    "asymmetric": "the float output",
    "residual": "the float output or sum",
}
"""What a layer's solvers were to reach, by the name of the target."""


def _learned(
    found: Sequence[ReconstructionReport], names: AbstractSet[str], here: str = ""
) -> Iterator[str]:
    """Of nearest rounding, the solvers' start and the learned one: which is kept, and why.

    Of reconstructions called one of ``names``; ``here`` is the block whose row they are for.
    """
    for one in found:
        if one.of not in names:
            continue
        figures = one.held_out_loss or one.held_out_error
        errors = {"nearest": figures.nearest, "start": figures.start, "learned": figures.learned}
        shown = (f"{which} {value:.3g}" for which, value in errors.items() if value is not None)
        what = "loss" if one.held_out_loss else "error"
        which = f"`{one.of}`: " if here and one.of != here else ""
        yield (
            f"{which}kept {one.kept} after {several(one.steps, 'step')} "
            f"(held-out {what}: {', '.join(shown)})"
        )
        if one.note:
            yield one.note
