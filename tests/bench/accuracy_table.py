"""The results of the accuracy benchmark, as data and as a table. Loads no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from tests.bench.cells import Document, Json
from tests.bench.matrix import BASELINE, Row

MEGABYTE = 1e6
HEADER = (
    "| model | scheme | preset | steps | seed | images | float | rtn | accuracy | agreement | KL "
    "| block error | size | seconds | cpu s | peak MB |",
    "|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
)


@dataclass(frozen=True, slots=True)
class Measured:
    """``None`` for what the time limit did not let happen."""

    row: Row
    data: str
    of_float: Document | None
    result: Document | None


def as_json(found: Sequence[Measured]) -> Document:
    baselines = _baselines(found)
    done = [item for item in found if item.result is not None]
    return {
        "data": sorted({item.data for item in found}),
        "rows": [_entry(item, baselines) for item in done],
        "missing": [item.row.label for item in found if item.result is None],
    }


def as_markdown(found: Sequence[Measured]) -> str:
    entries = cast("list[dict[str, Json]]", as_json(found)["rows"])
    lines = [*HEADER, *map(_line, sorted(entries, key=_order))]
    missing = [item.row.label for item in found if item.result is None]
    if missing:
        lines += ["", f"{len(missing)} rows are missing; call again to continue:"]
        lines += [f"- {label}" for label in missing]
    if any(entry["was_interrupted"] for entry in entries):
        lines += ["", "`*`: interrupted and continued; the peak is that of the last part."]
    lines += ["", *(f"Data: {name}." for name in sorted({item.data for item in found}))]
    return "\n".join(lines)


def _entry(item: Measured, baselines: dict[tuple[str, str, int], float]) -> dict[str, Json]:
    row, result = item.row, item.result or {}
    phases = cast("dict[str, dict[str, float]]", result["phases"])
    wall, cpu = (
        sum(phases[name][clock] for name in ("capture", "plan", "run")) for clock in ("wall", "cpu")
    )
    return {
        "model": row.model.name,
        "recipe": row.recipe.stem,
        "scheme": row.bits,
        "preset": row.preset,
        "steps": result["steps"],
        "seed": row.seed,
        "data": item.data,
        "images": result["images"],
        "float": cast("Document", item.of_float)["top1"],
        "rtn": baselines.get((row.model.name, row.bits, row.seed)),
        "accuracy": result["top1"],
        "plain_images": row.model.plain_images or result["images"],
        "plain_float": cast("Document", item.of_float)["plain_top1"],
        "plain_accuracy": result["plain_top1"],
        "agreement": result["agreement"],
        "kl": result["kl"],
        "rel_error": result["rel_error"],
        "logit_error": result["logit_error"],
        "bytes_float": result["bytes_float"],
        "bytes": result["bytes"],
        "seconds": round(wall + cast("float", result["seconds_before"]), 1),
        "cpu_seconds": round(cpu + cast("float", result["cpu_seconds_before"]), 1),
        "run_cpu_seconds": phases["run"]["cpu"],
        "allowed_cpu_seconds": result.get("allowed_cpu_seconds"),
        "seconds_a_step": result["seconds_a_step"],
        "stretches": result["stretches"],
        "was_interrupted": cast("float", result["seconds_before"]) > 0,
        "peak_rss_mb": result["peak_rss_mb"],
        "threads": result["threads"],
        "phases": phases,
    }


def _baselines(found: Sequence[Measured]) -> dict[tuple[str, str, int], float]:
    return {
        (item.row.model.name, item.row.bits, item.row.seed): cast("float", item.result["top1"])
        for item in found
        if item.row.preset == BASELINE and item.result is not None
    }


def _line(entry: dict[str, Json]) -> str:
    before, after = cast("int", entry["bytes_float"]), cast("int", entry["bytes"])
    cells = (
        entry["model"],
        entry["scheme"],
        entry["preset"],
        entry["steps"] or "-",
        entry["seed"],
        f"{entry['images']:,}",
        *(_percent(entry[name]) for name in ("float", "rtn", "accuracy", "agreement")),
        f"{entry['kl']:.4f}",
        f"{entry['rel_error']:.4f}",
        f"{before / MEGABYTE:.1f} -> {after / MEGABYTE:.2f} MB",
        f"{entry['seconds']:.0f}{'*' if entry['was_interrupted'] else ''}",
        f"{entry['cpu_seconds']:.0f}",
        f"{entry['peak_rss_mb']:.0f}",
    )
    return f"| {' | '.join(map(str, cells))} |"


def _percent(share: Json) -> str:
    return f"{100 * share:.2f}" if isinstance(share, float) else "-"


def _order(entry: dict[str, Json]) -> tuple[str, str, int]:
    """Presets stay in the order in which they were run."""
    return str(entry["model"]), str(entry["recipe"]), cast("int", entry["seed"])
